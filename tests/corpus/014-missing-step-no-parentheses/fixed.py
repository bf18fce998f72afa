import torch
import torch.nn as nn
from torch.utils.data import DataLoader, random_split, TensorDataset


class SineForecaster(nn.Module):
    """Predicts the next value from a window."""

    def __init__(self, hidden_size=24):
        super().__init__()
        self.gru = nn.GRU(input_size=1, hidden_size=hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, window):
        out, _ = self.gru(window)
        return self.fc(out[:, -1])


class ForecastTrainer:

    def __init__(self, model, lr=1e-2):
        self.model = model
        self.optimizer = torch.optim.RMSprop(model.parameters(), lr=lr)
        self.criterion = nn.MSELoss()

    def train_epoch(self, loader):
        self.model.train()
        total_loss = 0.
        for window, target in loader:
            self.optimizer.zero_grad()
            output = self.model(window)
            loss = self.criterion(output, target)
            loss.backward()
            self.optimizer.step()
            total_loss += loss.item()
        return total_loss / len(loader)

    def evaluate(self, loader):
        self.model.eval()
        with torch.no_grad():
            return sum(self.criterion(self.model(w), t).item() for w, t in loader) / len(loader)


torch.manual_seed(17)
t = torch.arange(0, 60, 0.1)
series = torch.sin(t) * 0.7 + torch.sin(2.3 * t) * 0.3
windows = series.unfold(0, 21, 1)
ds = TensorDataset(windows[:, :-1].unsqueeze(-1).clone(), windows[:, -1:].clone())
train_ds, val_ds = random_split(ds, [480, len(ds) - 480])

trainer = ForecastTrainer(SineForecaster())
train_loader, val_loader = DataLoader(train_ds, 32, shuffle=True), DataLoader(val_ds, 100)
for epoch in range(6):
    tl = trainer.train_epoch(train_loader)
    print(f'epoch {epoch}: train {tl:.5f} val {trainer.evaluate(val_loader):.5f}')
