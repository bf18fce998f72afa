import logging
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_classification

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
log = logging.getLogger("train")
CONFIG = dict(epochs=3, batch_size=20, lr=2e-3, eval_every=20, hidden=48, seed=8)


def build(cfg):
    h = cfg["hidden"]
    return nn.Sequential(nn.Linear(20, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Dropout(0.25), nn.Linear(h, 3))


def evaluate(model, loader):
    model.eval()
    n = ok = 0
    with torch.no_grad():
        for x, y in loader:
            ok += (model(x).argmax(1) == y).sum().item()
            n += len(y)
    return ok / n


def main(cfg):
    torch.manual_seed(cfg["seed"])
    X, y = make_classification(1300, 20, n_informative=8, n_classes=3, random_state=8)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y)
    train = DataLoader(TensorDataset(X[:1000], y[:1000]), cfg["batch_size"], shuffle=True)
    valid = DataLoader(TensorDataset(X[1000:], y[1000:]), 100)
    model = build(cfg)
    opt = torch.optim.AdamW(model.parameters(), lr=cfg["lr"])
    loss_fn = nn.CrossEntropyLoss()
    step = 0
    for epoch in range(cfg["epochs"]):
        for x, y_ in train:
            model.train()
            opt.zero_grad()
            loss = loss_fn(model(x), y_)
            loss.backward()
            opt.step()
            step += 1
            if step % cfg["eval_every"] == 0:
                log.info("epoch %d step %d loss %.3f acc %.3f", epoch, step, loss.item(), evaluate(model, valid))


main(CONFIG)
