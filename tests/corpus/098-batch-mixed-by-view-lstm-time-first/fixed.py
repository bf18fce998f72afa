import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class ActivityLSTM(nn.Module):
    def __init__(self, feats, hidden, classes):
        super().__init__()
        self.lstm = nn.LSTM(feats, hidden)        # expects (time, batch, feature)
        self.fc = nn.Linear(hidden, classes)

    def forward(self, x):
        b, t, f = x.shape
        x = x.transpose(0, 1)
        out, _ = self.lstm(x)
        return self.fc(out[-1])


def synth(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    t = torch.linspace(0, 2, 20).view(1, 20, 1)
    freq = (y + 1).float().view(-1, 1, 1) * torch.tensor([1.0, 1.5, 0.5, 2.0])
    x = torch.sin(freq * t * 3 + torch.rand(n, 1, 4, generator=g)) + 0.2 * torch.randn(n, 20, 4, generator=g)
    return TensorDataset(x, y)


def main():
    torch.manual_seed(16)
    train_dl = DataLoader(synth(640, 1), batch_size=32, shuffle=True)
    val_dl = DataLoader(synth(160, 2), batch_size=32)
    model = ActivityLSTM(4, 24, 3)
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for epoch in range(4):
        model.train()
        for x, y in train_dl:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            acc = sum((model(x).argmax(1) == y).sum().item() for x, y in val_dl) / 160
        print(f"epoch {epoch}: loss {loss.item():.3f} acc {acc:.3f}")


if __name__ == "__main__":
    main()
