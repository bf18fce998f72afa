# expect: nothing
"""Copies and averages by hand: a dict of clones, a swap for validation, and a tied weight among the pairs."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
model = nn.ModuleDict({"in": nn.Embedding(10, 8), "out": nn.Linear(8, 10, bias=False)})
model["out"].weight = model["in"].weight
target = nn.ModuleDict({"in": nn.Embedding(10, 8), "out": nn.Linear(8, 10, bias=False)})
target["out"].weight = model["out"].weight  # the head is shared, the embedding is averaged
average = {name: p.detach().clone() for name, p in model.named_parameters()}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.0)
for step in range(40):
    tokens = torch.randint(0, 10, (32,))
    loss = F.cross_entropy(model["out"](model["in"](tokens)), (tokens + 1) % 10)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for name, p in model.named_parameters():
            average[name].mul_(0.9).add_(p, alpha=0.1)
        for kept, p in zip(target.parameters(), [model["in"].weight, model["out"].weight]):
            kept.lerp_(p, 0.1)
        for p in model.parameters():
            p.add_(p, alpha=-1e-4)
        if step % 10 == 9:
            kept = {name: p.clone() for name, p in model.named_parameters()}
            for name, p in model.named_parameters():
                p.copy_(average[name])
            print(F.cross_entropy(model["out"](model["in"](tokens)), (tokens + 1) % 10).item())
            for name, p in model.named_parameters():
                p.copy_(kept[name])
