"""Sequence model whose hidden state is itself a small linear model, trained by gradient steps inside forward."""
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Recall(IterableDataset):
    """Pairs key, value, ..., then a key: say its value."""

    def __init__(self, n, pairs=5, symbols=8, seed=0):
        self.n, self.pairs, self.symbols, self.seed = n, pairs, symbols, seed
        self.epoch = 0

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed + 1000 * self.epoch)
        self.epoch += 1
        for _ in range(self.n):
            keys = torch.randperm(self.symbols, generator=g)[: self.pairs]
            values = torch.randint(self.symbols, (self.pairs,), generator=g)
            asked = torch.randint(self.pairs, (), generator=g)
            yield keys, values, keys[asked], values[asked]


class InnerLearner(nn.Module):
    def __init__(self, symbols=8, d=24):
        super().__init__()
        self.key, self.value = nn.Embedding(symbols, d), nn.Embedding(symbols, d)
        self.start = nn.Parameter(torch.zeros(d, d))
        self.log_rate = nn.Parameter(torch.tensor(-0.5))
        self.read = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, symbols))

    def forward(self, keys, values, asked):
        k, v = nn.functional.normalize(self.key(keys), dim=-1), self.value(values)
        w = self.start.expand(len(keys), -1, -1)
        rate = self.log_rate.exp()
        for i in range(keys.size(1)):
            # the gradient of |w k - v|^2 / 2 with respect to w, written out, stays part of the graph
            error = torch.einsum("bij,bj->bi", w, k[:, i]) - v[:, i]
            w = w - rate * torch.einsum("bi,bj->bij", error, k[:, i])
        q = nn.functional.normalize(self.key(asked), dim=-1)
        return self.read(torch.einsum("bij,bj->bi", w, q))


def main():
    torch.manual_seed(13)
    train = DataLoader(Recall(640), batch_size=32)
    test = DataLoader(Recall(320, seed=77), batch_size=160)
    net = InnerLearner()
    groups = [
        {"params": [net.start, net.log_rate], "lr": 1e-2},
        {"params": [p for n, p in net.named_parameters() if n not in ("start", "log_rate")]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, amsgrad=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [2e-2, 1e-2], total_steps=6 * 20)
    for epoch in range(6):
        for keys, values, asked, answer in train:
            loss = nn.functional.cross_entropy(net(keys, values, asked), answer)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            right = torch.cat([net(k, v, a).argmax(-1) == y for k, v, a, y in test])
        print(f"epoch {epoch} loss {loss.item():.3f} recall {right.float().mean():.3f} rate {net.log_rate.exp().item():.3f}")


if __name__ == "__main__":
    main()
