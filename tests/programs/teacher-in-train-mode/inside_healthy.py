# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()


class Distiller(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher = nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
        self.student = nn.Linear(10, 2)
        self.teacher.requires_grad_(False).eval()

    def train(self, mode=True):
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, inputs):
        with torch.no_grad():
            soft = self.teacher(inputs).softmax(1)
        return F.kl_div(self.student(inputs).log_softmax(1), soft, reduction="batchmean")


model = Distiller()
optimizer = torch.optim.Adam(model.student.parameters(), lr=0.01)
for epoch in range(4):
    model.train()
    for index in torch.randperm(256).split(32):
        optimizer.zero_grad()
        model(x[index]).backward()
        optimizer.step()


class MeanTeacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.teacher = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)

    def forward(self, inputs, labels):
        out = self.student(inputs)
        with torch.no_grad():
            for mean, now in zip(self.teacher.parameters(), self.student.parameters()):
                mean.lerp_(now, 0.1)
            soft = self.teacher(inputs).softmax(1)
        return F.cross_entropy(out, labels) + F.mse_loss(out.softmax(1), soft)


model = MeanTeacher()
optimizer = torch.optim.Adam(model.student.parameters(), lr=0.01)
for step in range(40):
    index = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    model(x[index], y[index]).backward()
    optimizer.step()
