import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_regression


def train_one_epoch(model, loader, optimizer, scheduler, loss_fn):
    model.train()
    total = 0.0
    for x, y in loader:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        total += loss.item()
    if scheduler is not None:
        scheduler.step()
    return total / len(loader)


if __name__ == "__main__":
    torch.manual_seed(140)
    X, y = make_regression(600, 10, noise=4.0, random_state=7)
    X, y = torch.tensor(X).float(), torch.tensor((y - y.mean()) / y.std()).float().unsqueeze(1)
    loader = DataLoader(TensorDataset(X, y), batch_size=30, shuffle=True)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    epochs = 8
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=1e-5)
    for epoch in range(epochs):
        loss = train_one_epoch(model, loader, optimizer, scheduler, nn.MSELoss())
        print(f"epoch {epoch}: loss {loss:.4f} lr {optimizer.param_groups[0]['lr']:.5f}")
