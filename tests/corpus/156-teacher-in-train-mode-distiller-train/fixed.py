"""Distillation as a module that owns both: the teacher is frozen, the student imitates it."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_teacher(inputs=16, classes=5):
    return nn.Sequential(
        nn.Linear(inputs, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(0.3), nn.Linear(96, classes)
    )


def make_student(inputs=16, classes=5):
    return nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, classes))


class Distiller(nn.Module):
    def __init__(self, teacher, student, temperature=3.0, alpha=0.7):
        super().__init__()
        self.teacher, self.student = teacher, student
        self.temperature, self.alpha = temperature, alpha
        self.teacher.requires_grad_(False)
        self.teacher.eval()

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x, y):
        logits = self.student(x)
        with torch.no_grad():
            soft = F.softmax(self.teacher(x) / self.temperature, dim=-1)
        imitate = F.kl_div(
            F.log_softmax(logits / self.temperature, dim=-1), soft, reduction="batchmean"
        ) * self.temperature**2
        return self.alpha * imitate + (1 - self.alpha) * F.cross_entropy(logits, y)


def pretrain(teacher, loader, epochs=4):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    teacher.train()
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            optimizer.step()


def distill(distiller, loader, held_out, epochs=4):
    optimizer = torch.optim.Adam(distiller.student.parameters(), lr=5e-3)
    x_val, y_val = held_out
    for epoch in range(epochs):
        distiller.train()
        for x, y in loader:
            optimizer.zero_grad()
            loss = distiller(x, y)
            loss.backward()
            optimizer.step()
        distiller.eval()
        with torch.no_grad():
            right = (distiller.student(x_val).argmax(1) == y_val).float().mean()
        print(f"epoch {epoch}: {right:.3f}")


def main():
    torch.manual_seed(0)
    x = torch.randn(1000, 16)
    y = (x @ torch.randn(16, 5)).argmax(1)
    loader = DataLoader(TensorDataset(x[:800], y[:800]), 64, shuffle=True)
    teacher = make_teacher()
    pretrain(teacher, loader)
    distill(Distiller(teacher, make_student()), loader, (x[800:], y[800:]))


if __name__ == "__main__":
    main()
