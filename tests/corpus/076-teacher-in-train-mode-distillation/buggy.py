import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
T, ALPHA = 3.0, 0.7
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
train_dl = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=70, shuffle=True)


def accuracy(net):
    was = net.training
    net.eval()
    with torch.no_grad():
        a = (net(x[1400:]).argmax(1) == y[1400:]).float().mean().item()
    net.train(was)
    return a


teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 64), nn.ReLU(),
                        nn.Dropout(0.4), nn.Linear(64, 10))
opt_t = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for epoch in range(4):
    teacher.train()
    for xb, yb in train_dl:
        loss = F.cross_entropy(teacher(xb), yb)
        opt_t.zero_grad()
        loss.backward()
        opt_t.step()
print(f"teacher accuracy {accuracy(teacher):.3f}")

student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
opt_s = torch.optim.Adam(student.parameters(), lr=3e-3)
for epoch in range(6):
    student.train()
    for xb, yb in train_dl:
        with torch.no_grad():
            t_logits = teacher(xb)
        s_logits = student(xb)
        soft = F.kl_div(F.log_softmax(s_logits / T, 1), F.softmax(t_logits / T, 1), reduction="batchmean") * T * T
        loss = ALPHA * soft + (1 - ALPHA) * F.cross_entropy(s_logits, yb)
        opt_s.zero_grad()
        loss.backward()
        opt_s.step()
    if epoch % 2:
        print(f"epoch {epoch} loss {loss.item():.3f} student accuracy {accuracy(student):.3f}")
