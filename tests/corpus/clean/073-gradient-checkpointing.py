import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

torch.manual_seed(73)


class Deep(nn.Module):
    def __init__(self, d=32, depth=6):
        super().__init__()
        self.inp, self.out = nn.Linear(8, d), nn.Linear(d, 1)
        self.layers = nn.ModuleList(nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Dropout(0.05))
                                    for _ in range(depth))

    def forward(self, x):
        h = self.inp(x)
        for layer in self.layers:
            if self.training:
                h = h + checkpoint(layer, h, use_reentrant=False)
            else:
                h = h + layer(h)
        return self.out(h)


net = Deep()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
val = torch.randn(200, 8)
for it in range(1, 101):
    net.train()
    x = torch.randn(64, 8)
    loss = nn.functional.mse_loss(net(x), (x[:, :1] * x[:, 1:2]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 25 == 0:
        net.eval()
        with torch.no_grad():
            v = nn.functional.mse_loss(net(val), val[:, :1] * val[:, 1:2]).item()
        print(it, round(loss.item(), 4), round(v, 4))
