# expect: nothing
# An error that is only measured, of what another loss trains; and a head whose turn comes later.
import torch
from torch import nn

torch.manual_seed(0)
body = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
heads = nn.ModuleDict({"kind": nn.Linear(16, 3), "size": nn.Linear(16, 1)})
optimizer = torch.optim.Adam([*body.parameters(), *heads.parameters()], lr=0.01)
for step in range(40):
    x = torch.randn(16, 4)
    h = body(x)
    kind = nn.functional.cross_entropy(heads["kind"](h), x[:, :3].argmax(1))
    size = heads["size"](h).squeeze(1)
    squares = nn.functional.mse_loss(size, x.norm(dim=1))
    measured = nn.functional.l1_loss(size, x.norm(dim=1))
    loss = kind if step < 20 else kind + squares
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
