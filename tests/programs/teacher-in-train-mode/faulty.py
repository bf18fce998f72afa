# expect: teacher-in-train-mode @ teacher(inputs)
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

teacher = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2))
student = nn.Linear(10, 2)
optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
for epoch in range(3):
    for inputs, labels in loader:
        with torch.no_grad():
            soft = F.softmax(teacher(inputs) / 2, dim=1)
        out = student(inputs)
        loss = F.cross_entropy(out, labels) + F.kl_div(F.log_softmax(out / 2, dim=1), soft, reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
