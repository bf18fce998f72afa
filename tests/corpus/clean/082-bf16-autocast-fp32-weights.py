import torch
import torch.nn as nn

torch.manual_seed(82)
net = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 1))
opt = torch.optim.AdamW(net.parameters(), lr=1e-4)       # small, but the weights are fp32
first = None
for it in range(150):
    x = torch.randn(64, 16)
    y = x[:, :4].sum(1, keepdim=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(x)
    loss = nn.functional.mse_loss(out.float(), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    first = first or loss.item()
print(round(first, 4), "->", round(loss.item(), 4))
