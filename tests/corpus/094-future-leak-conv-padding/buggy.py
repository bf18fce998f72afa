import torch
import torch.nn as nn
import torch.nn.functional as F


class CausalConv(nn.Module):
    def __init__(self, cin, cout, k, dilation):
        super().__init__()
        self.left = (k - 1) * dilation
        self.conv = nn.Conv1d(cin, cout, k, dilation=dilation, padding="same")

    def forward(self, x):
        return torch.relu(self.conv(x))


class WaveNetish(nn.Module):
    """predicts sample t+1 of a quantised wave from the samples up to t"""

    def __init__(self, levels=16, ch=24):
        super().__init__()
        self.inp = nn.Embedding(levels, ch)
        self.convs = nn.ModuleList([CausalConv(ch, ch, 3, d) for d in (1, 2, 4)])
        self.out = nn.Conv1d(ch, levels, 1)

    def forward(self, ids):
        h = self.inp(ids).transpose(1, 2)
        for c in self.convs:
            h = h + c(h)
        return self.out(h)


def wave(batch, length=48, levels=16):
    t = torch.arange(length)
    f = 0.1 + 0.3 * torch.rand(batch, 1)
    ph = 6.28 * torch.rand(batch, 1)
    w = torch.sin(f * t + ph) + 0.15 * torch.randn(batch, length)
    return ((w.clamp(-1.2, 1.2) + 1.2) / 2.4 * (levels - 1)).round().long()


def main():
    torch.manual_seed(8)
    model = WaveNetish()
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    for it in range(1, 161):
        ids = wave(32)
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits, ids[:, 1:])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if it % 40 == 0:
            print(f"iter {it} nll {loss.item():.4f}")


if __name__ == "__main__":
    main()
