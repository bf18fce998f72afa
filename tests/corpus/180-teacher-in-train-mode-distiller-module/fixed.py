"""Distillation into a smaller net."""
import torch
import torch.nn.functional as F
from torch import nn


def mlp(width, drop):
    return nn.Sequential(
        nn.Linear(12, width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, width), nn.ReLU(), nn.Dropout(drop),
        nn.Linear(width, 4),
    )


def sample(n, truth):
    x = torch.randn(n, 12)
    return x, (x @ truth).argmax(1)


def pretrain(teacher, truth, steps=60):
    optimizer = torch.optim.Adam(teacher.parameters(), lr=3e-3)
    teacher.train()
    for _ in range(steps):
        x, y = sample(64, truth)
        optimizer.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer.step()
    return teacher


class Distiller(nn.Module):
    def __init__(self, teacher, student, temperature=3.0, alpha=0.7):
        super().__init__()
        self.teacher, self.student = teacher, student
        self.temperature, self.alpha = temperature, alpha
        for p in self.teacher.parameters():
            p.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, x, y):
        with torch.no_grad():
            soft = F.softmax(self.teacher(x) / self.temperature, dim=1)
        logits = self.student(x)
        kd = F.kl_div(F.log_softmax(logits / self.temperature, dim=1), soft, reduction="batchmean")
        return self.alpha * kd * self.temperature**2 + (1 - self.alpha) * F.cross_entropy(logits, y)


def main():
    torch.manual_seed(0)
    truth = torch.randn(12, 4)
    teacher = pretrain(mlp(64, 0.3), truth).eval()
    distiller = Distiller(teacher, mlp(16, 0.0))
    optimizer = torch.optim.Adam(distiller.student.parameters(), lr=3e-3)
    for epoch in range(3):
        distiller.train()
        for _ in range(20):
            loss = distiller(*sample(64, truth))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


main()
