"""Forecasts a series with an LSTM; batches come as (batch, time, features)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    def __init__(self, series, length):
        self.series, self.length = series, length

    def __len__(self):
        return len(self.series) - self.length

    def __getitem__(self, i):
        window = self.series[i : i + self.length + 1]
        return window[:-1], window[-1, 0]


class Forecaster(nn.Module):
    def __init__(self, features, hidden=24):
        super().__init__()
        self.rnn = nn.LSTM(features, hidden, num_layers=1)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1]).squeeze(-1)


def series(n=400):
    t = torch.arange(n) / 10
    return torch.stack([t.sin(), (0.5 * t).cos(), torch.randn(n) * 0.1], 1)


def main():
    torch.manual_seed(0)
    loader = DataLoader(Windows(series(), 12), batch_size=32, shuffle=True, drop_last=True)
    model = Forecaster(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    criterion = nn.MSELoss()
    for epoch in range(4):
        total = 0.0
        for x, y in loader:
            loss = criterion(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        print(epoch, total / len(loader))


main()
