"""House prices: a regression whose targets come out of a dict."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Houses(Dataset):
    def __init__(self, n=400):
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(n, 9, generator=g)
        self.price = self.x @ torch.randn(9, generator=g) + 2

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"features": self.x[i], "price": self.price[i]}


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(9, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, features):
        return self.net(features).squeeze(-1)


def huber(prediction, target, delta=1.0):
    error = prediction - target
    small = error.abs().clamp(max=delta)
    return (0.5 * small**2 + delta * (error.abs() - small)).mean()


def main():
    torch.manual_seed(1)
    loader = DataLoader(Houses(), batch_size=25, shuffle=True)
    model = Regressor()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    for epoch in range(5):
        total = 0.0
        for batch in loader:
            loss = huber(model(batch["features"]), batch["price"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(loader):.3f}")


main()
