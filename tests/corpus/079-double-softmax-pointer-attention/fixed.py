import torch
import torch.nn as nn
import torch.nn.functional as F


class Pointer(nn.Module):
    """points at the largest number of a sequence"""

    def __init__(self, hid=24):
        super().__init__()
        self.enc = nn.GRU(1, hid, batch_first=True)
        self.q = nn.Linear(hid, hid)
        self.k = nn.Linear(hid, hid)
        self.v = nn.Linear(hid, 1)

    def forward(self, x):
        h, last = self.enc(x)
        query = self.q(last[-1]).unsqueeze(1)
        energy = self.v(torch.tanh(query + self.k(h)))
        return energy.squeeze(-1)


def make(n):
    x = torch.rand(n, 8, 1)
    return x, x.squeeze(-1).argmax(1)


def main():
    torch.manual_seed(2)
    net = Pointer()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    xv, yv = make(300)
    for it in range(1, 161):
        x, y = make(64)
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if it % 40 == 0:
            net.eval()
            with torch.no_grad():
                acc = (net(xv).argmax(-1) == yv).float().mean().item()
            net.train()
            print(it, round(loss.item(), 4), round(acc, 3))


if __name__ == "__main__":
    main()
