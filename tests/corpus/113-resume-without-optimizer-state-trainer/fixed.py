import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_wine


class Trainer:
    def __init__(self, folder, lr=0.02):
        self.folder = Path(folder)
        self.model = nn.Sequential(nn.Linear(13, 24), nn.Tanh(), nn.Linear(24, 3))
        self.opt = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=0.9)
        self.sched = torch.optim.lr_scheduler.StepLR(self.opt, step_size=4, gamma=0.5)
        self.criterion = nn.CrossEntropyLoss()
        self.epoch = 0

    def save(self):
        torch.save(dict(model=self.model.state_dict(), optimizer=self.opt.state_dict(), sched=self.sched.state_dict(),
                        epoch=self.epoch), self.folder / "last.ckpt")

    def load(self):
        ckpt = torch.load(self.folder / "last.ckpt", weights_only=True)
        self.model.load_state_dict(ckpt["model"])
        self.opt.load_state_dict(ckpt["optimizer"])
        self.sched.load_state_dict(ckpt["sched"])
        self.epoch = ckpt["epoch"]

    def fit(self, loader, epochs):
        while self.epoch < epochs:
            self.model.train()
            total = 0.0
            for x, y in loader:
                self.opt.zero_grad()
                loss = self.criterion(self.model(x), y)
                loss.backward()
                self.opt.step()
                total += loss.item()
            self.sched.step()
            self.epoch += 1
            print(f"epoch {self.epoch} loss {total / len(loader):.4f} lr {self.sched.get_last_lr()[0]:.4f}")
            self.save()


def main():
    torch.manual_seed(4)
    X, y = load_wine(return_X_y=True)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    loader = DataLoader(TensorDataset(X, torch.tensor(y)), batch_size=16, shuffle=True)
    with tempfile.TemporaryDirectory() as tmp:
        Trainer(tmp).fit(loader, 3)
        second = Trainer(tmp)
        second.load()
        second.fit(loader, 6)


if __name__ == "__main__":
    main()
