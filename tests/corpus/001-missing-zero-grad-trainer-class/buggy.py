"""Tabular regression on the diabetes data with a small Trainer and callbacks."""
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Callback:
    def on_epoch_end(self, trainer, epoch, logs):
        pass


class PrintLogs(Callback):
    def __init__(self, every=1):
        self.every = every

    def on_epoch_end(self, trainer, epoch, logs):
        if epoch % self.every == 0:
            print("epoch %02d " % epoch + " ".join(f"{k}={v:.4f}" for k, v in logs.items()))


@dataclass
class Trainer:
    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss_fn: nn.Module
    callbacks: list = field(default_factory=list)

    def training_step(self, batch):
        x, y = batch
        prediction = self.model(x)
        loss = self.loss_fn(prediction, y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def validate(self, loader):
        self.model.eval()
        return float(np.mean([self.loss_fn(self.model(x), y).item() for x, y in loader]))

    def fit(self, train, valid, epochs):
        for epoch in range(epochs):
            self.model.train()
            losses = [self.training_step(b) for b in train]
            logs = {"train_mse": float(np.mean(losses)), "val_mse": self.validate(valid)}
            for cb in self.callbacks:
                cb.on_epoch_end(self, epoch, logs)


def make_data(seed=1):
    X, y = load_diabetes(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    y = (y - y.mean()) / y.std()
    order = np.random.RandomState(seed).permutation(len(X))
    X = torch.tensor(X[order], dtype=torch.float32)
    y = torch.tensor(y[order], dtype=torch.float32).unsqueeze(1)
    return TensorDataset(X[:350], y[:350]), TensorDataset(X[350:], y[350:])


if __name__ == "__main__":
    torch.manual_seed(1)
    train_ds, valid_ds = make_data()
    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1))
    trainer = Trainer(net, torch.optim.SGD(net.parameters(), lr=0.02), nn.MSELoss(), [PrintLogs(2)])
    trainer.fit(DataLoader(train_ds, 25, shuffle=True), DataLoader(valid_ds, 92), epochs=12)
