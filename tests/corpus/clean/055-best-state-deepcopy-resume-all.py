import copy
import io
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits


def make():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    return model, opt, torch.optim.lr_scheduler.ExponentialLR(opt, 0.8)


torch.manual_seed(55)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1300], y[:1300]), 65, shuffle=True)


def run(model, opt, sched, epochs):
    best, best_state = 0.0, None
    for _ in range(epochs):
        model.train()
        for xb, yb in dl:
            loss = nn.functional.cross_entropy(model(xb), yb)
            opt.zero_grad()
            loss.backward()
            opt.step()
        sched.step()
        model.eval()
        with torch.no_grad():
            acc = (model(x[1300:]).argmax(1) == y[1300:]).float().mean().item()
        if acc > best:
            best, best_state = acc, copy.deepcopy(model.state_dict())
    return best, best_state


model, opt, sched = make()
print("first", run(model, opt, sched, 2)[0])
buf = io.BytesIO()
torch.save({"m": model.state_dict(), "o": opt.state_dict(), "s": sched.state_dict(), "rng": torch.get_rng_state()}, buf)
buf.seek(0)
model, opt, sched = make()
ck = torch.load(buf)
model.load_state_dict(ck["m"])
opt.load_state_dict(ck["o"])
sched.load_state_dict(ck["s"])
torch.set_rng_state(ck["rng"])
best, state = run(model, opt, sched, 3)
model.load_state_dict(state)
print("resumed", best)
