"""Trainer with callbacks; one of them drives the schedule."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Callback:
    def on_batch_end(self, trainer): ...
    def on_epoch_end(self, trainer): ...


class Schedule(Callback):
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def on_batch_end(self, trainer):
        self.scheduler.step()


class Printer(Callback):
    def on_epoch_end(self, trainer):
        print(trainer.epoch, trainer.loss)


class Trainer:
    def __init__(self, model, optimizer, criterion, callbacks):
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.callbacks, self.epoch, self.loss = callbacks, 0, 0.0

    def fire(self, event):
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def fit(self, loader, epochs):
        for self.epoch in range(epochs):
            for x, y in loader:
                self.optimizer.zero_grad()
                loss = self.criterion(self.model(x), y)
                loss.backward()
                self.optimizer.step()
                self.loss = loss.item()
                self.fire("on_batch_end")
            self.fire("on_epoch_end")


torch.manual_seed(0)
x = torch.randn(384, 14)
y = (x.sum(1) > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(14, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
epochs = 5
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, epochs=epochs, steps_per_epoch=len(loader))
Trainer(model, optimizer, nn.CrossEntropyLoss(), [Schedule(scheduler), Printer()]).fit(loader, epochs)
