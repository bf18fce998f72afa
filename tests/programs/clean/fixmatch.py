# expect: nothing
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.05)
for it in range(40):
    x, u = torch.randn(16, 10), torch.randn(64, 10)
    y = (x[:, 0] > 0).long()
    with torch.no_grad():
        probs = model(u + 0.05 * torch.randn_like(u)).softmax(1)
        confidence, label = probs.max(1)
        mask = (confidence > 0.7).float()
    if it % 10 == 0:
        print(mask.mean().item())
    strong = model(u + 0.3 * torch.randn_like(u))
    loss = F.cross_entropy(model(x), y) + (F.cross_entropy(strong, label, reduction="none") * mask).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
