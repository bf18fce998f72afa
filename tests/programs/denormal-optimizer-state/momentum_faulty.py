# expect: denormal-optimizer-state @ self.optimizer.step()
# says: numbers in SGD's momentum_buffer are denormal (below 1.2e-38)
# Borders with noise in the first epoch alone; the optimizer is gone before the program ends.
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model):
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.6)

    def epoch(self, loader, border):
        for pictures, labels in loader:
            pictures = pictures.clone()
            pictures[:, 64:] = border * torch.rand(len(pictures), 576)
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(pictures), labels).backward()
            self.optimizer.step()


def main():
    torch.manual_seed(0)
    pictures = torch.rand(320, 640)
    labels = (pictures[:, :64].mean(1) > 0.5).long()
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=16, shuffle=True)
    trainer = Trainer(nn.Sequential(nn.Linear(640, 128), nn.Tanh(), nn.Linear(128, 2)))
    for epoch in range(14):
        trainer.epoch(loader, border=float(epoch == 0))


main()
