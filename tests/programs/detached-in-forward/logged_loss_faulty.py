# expect: detached-in-forward @ nn.functional.l1_loss(
# says: l1_loss was computed here 20 times with a graph that no backward pass ran through
import torch
from torch import nn

torch.manual_seed(0)
body = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
heads = nn.ModuleDict({"kind": nn.Linear(16, 3), "size": nn.Linear(16, 1)})
optimizer = torch.optim.Adam([*body.parameters(), *heads.parameters()], lr=0.01)
for step in range(20):
    x = torch.randn(16, 4)
    h = body(x)
    losses = {
        "kind": nn.functional.cross_entropy(heads["kind"](h), x[:, :3].argmax(1)),
        "size": nn.functional.l1_loss(heads["size"](h).squeeze(1), x.norm(dim=1)),
    }
    losses["size"] = losses["size"].item()
    optimizer.zero_grad()
    sum(losses.values()).backward()
    optimizer.step()
