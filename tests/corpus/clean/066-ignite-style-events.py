from collections import defaultdict
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_iris


class Engine:
    def __init__(self, process):
        self.process, self.handlers = process, defaultdict(list)
        self.epoch = self.iteration = 0
        self.output = None

    def on(self, event):
        def deco(fn):
            self.handlers[event].append(fn)
            return fn
        return deco

    def fire(self, event):
        for fn in self.handlers[event]:
            fn(self)

    def run(self, data, max_epochs=1):
        for self.epoch in range(1, max_epochs + 1):
            self.fire("epoch_started")
            for batch in data:
                self.iteration += 1
                self.output = self.process(self, batch)
                self.fire("iteration_completed")
            self.fire("epoch_completed")
        return self


torch.manual_seed(66)
iris = load_iris()
X = torch.tensor((iris.data - iris.data.mean(0)) / iris.data.std(0), dtype=torch.float32)
y = torch.tensor(iris.target)
p = torch.randperm(150)
train = DataLoader(TensorDataset(X[p[:110]], y[p[:110]]), 11, shuffle=True)
test = DataLoader(TensorDataset(X[p[110:]], y[p[110:]]), 40)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)


def update(engine, batch):
    model.train()
    opt.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    opt.step()
    return loss.item()


def inference(engine, batch):
    model.eval()
    with torch.no_grad():
        return (model(batch[0]).argmax(1) == batch[1]).float().mean().item()


trainer, evaluator = Engine(update), Engine(inference)


@trainer.on("epoch_completed")
def report(engine):
    evaluator.run(test)
    print(engine.epoch, round(engine.output, 4), round(evaluator.output, 3))


trainer.run(train, max_epochs=6)
