# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
for step in range(20):
    index = torch.randint(0, 256, (32,))
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(x[index]), y[index])
    scaler.scale(loss).backward()
    for p in model.parameters():
        p.grad.data.clamp_(-0.01 * scaler.get_scale(), 0.01 * scaler.get_scale())  # a limit that is scaled too
    scaler.step(optimizer)
    scaler.update()
