# expect: nothing
"""Two noisy views of unlabelled data are drawn together, both with gradients; labels hold them apart."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2)), nn.Linear(16, 3)
optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=0.01)
for step in range(60):
    x, free = torch.randn(32, 6), torch.randn(64, 6)
    loss = F.cross_entropy(head(body(x)), x[:, :3].argmax(1))
    loss = loss + 0.3 * F.mse_loss(head(body(free)).softmax(1), head(body(free)).softmax(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
