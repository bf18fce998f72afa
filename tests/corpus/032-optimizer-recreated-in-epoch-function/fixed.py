import torch
from torch import nn
from data_utils import regression_loaders


def make_optimizer(model, lr):
    return torch.optim.Adam(model.parameters(), lr=lr)


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * x.size(0)
    return total / len(loader.dataset)


@torch.no_grad()
def validate(model, loader, criterion):
    model.eval()
    return sum(criterion(model(x), y).item() * x.size(0) for x, y in loader) / len(loader.dataset)


if __name__ == '__main__':
    torch.manual_seed(0)
    train_loader, val_loader = regression_loaders()
    model = nn.Sequential(nn.Linear(15, 64), nn.ReLU(), nn.Dropout(0.05), nn.Linear(64, 1))
    criterion = nn.MSELoss()
    optimizer = make_optimizer(model, 3e-3)
    for epoch in range(8):
        tr = train_one_epoch(model, train_loader, criterion, optimizer)
        va = validate(model, val_loader, criterion)
        print(f'Epoch {epoch + 1}/8 train {tr:.4f} val {va:.4f}')
