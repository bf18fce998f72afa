import logging

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format="%(message)s")
logger = logging.getLogger("tcn")


class CausalConv(nn.Module):
    def __init__(self, c_in, c_out, k, dilation):
        super().__init__()
        self.pad = (k - 1) * dilation
        self.conv = nn.Conv1d(c_in, c_out, k, dilation=dilation)

    def forward(self, x):
        return torch.relu(self.conv(nn.functional.pad(x, (self.pad, 0))))


class TCN(nn.Module):
    def __init__(self, channels=12):
        super().__init__()
        self.layers = nn.Sequential(CausalConv(1, channels, 3, 1), CausalConv(channels, channels, 3, 2),
                                    CausalConv(channels, channels, 3, 4))
        self.readout = nn.Conv1d(channels, 1, 1)

    def forward(self, x):
        return self.readout(self.layers(x))[..., -1]


class Trainer:
    def __init__(self, model, lr, max_norm):
        self.model, self.max_norm = model, max_norm
        self.optim = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optim, 0.9)

    def step(self, x, y):
        loss = nn.functional.mse_loss(self.model(x), y)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        nn.utils.clip_grad_norm_(self.model.parameters(), max_norm=self.max_norm)
        return loss.item()

    def run(self, train_loader, val_loader, epochs):
        for epoch in range(epochs):
            self.model.train()
            tr = sum(self.step(x, y) for x, y in train_loader) / len(train_loader)
            self.scheduler.step()
            self.model.eval()
            with torch.no_grad():
                va = sum(nn.functional.mse_loss(self.model(x), y).item() for x, y in val_loader) / len(val_loader)
            logger.info("epoch %d  train %.4f  val %.4f", epoch, tr, va)


def adding_problem(n, length, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, length, generator=g) - 0.5
    return TensorDataset(x, x[:, 0, -8:].sum(1, keepdim=True))


def main():
    torch.manual_seed(0)
    trainer = Trainer(TCN(), lr=0.05, max_norm=0.5)
    trainer.run(DataLoader(adding_problem(800, 20, 1), 40, shuffle=True),
                DataLoader(adding_problem(200, 20, 2), 100), epochs=6)


main()
