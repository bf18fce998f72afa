import torch
import torch.nn as nn
from sklearn.datasets import make_moons


class EMA:
    def __init__(self, model, decay=0.95):
        self.model, self.decay = model, decay
        self.shadow, self.backup = {}, {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                self.shadow[name] = p.data

    @torch.no_grad()
    def update(self):
        for name, p in self.model.named_parameters():
            if p.requires_grad:
                self.shadow[name].lerp_(p.data, 1 - self.decay)

    @torch.no_grad()
    def apply_shadow(self):
        for name, p in self.model.named_parameters():
            self.backup[name] = p.data.clone()
            p.data.copy_(self.shadow[name])

    @torch.no_grad()
    def restore(self):
        for name, p in self.model.named_parameters():
            p.data.copy_(self.backup[name])
        self.backup = {}


def main():
    torch.manual_seed(4)
    X, y = make_moons(600, noise=0.25, random_state=4)
    X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
    Xtr, ytr, Xte, yte = X[:450], y[:450], X[450:], y[450:]
    net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))
    ema = EMA(net)
    opt = torch.optim.SGD(net.parameters(), lr=0.2)
    ce = nn.CrossEntropyLoss()
    for epoch in range(12):
        for idx in torch.randperm(450).split(15):
            opt.zero_grad()
            loss = ce(net(Xtr[idx]), ytr[idx])
            loss.backward()
            opt.step()
            ema.update()
        with torch.no_grad():
            raw = (net(Xte).argmax(1) == yte).float().mean().item()
            ema.apply_shadow()
            avg = (net(Xte).argmax(1) == yte).float().mean().item()
            ema.restore()
        if epoch % 4 == 3:
            print(f"epoch {epoch} raw {raw:.3f} ema {avg:.3f}")


if __name__ == "__main__":
    main()
