import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_classification

torch.manual_seed(123)
X, y = make_classification(n_samples=1000, n_features=16, n_informative=8, random_state=1)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y, dtype=torch.float32)
train_loader = DataLoader(TensorDataset(X[:760], y[:760]), batch_size=20, shuffle=True)
X_val, y_val = X[760:], y[760:]

accumulation_steps = 4
n_batches = len(train_loader)
model = nn.Sequential(nn.Linear(16, 40), nn.ELU(), nn.Linear(40, 1), nn.Flatten(0))
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
bce = nn.BCEWithLogitsLoss()

for epoch in range(8):
    model.train()
    optimizer.zero_grad()
    running = 0.0
    for step, (inputs, targets) in enumerate(train_loader, start=1):
        loss = bce(model(inputs), targets)
        # the last window of an epoch may be shorter
        window = accumulation_steps if step <= n_batches - n_batches % accumulation_steps else n_batches % accumulation_steps
        (loss / window).backward()
        if step % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
        running += loss.item()

    model.eval()
    with torch.no_grad():
        accuracy = ((model(X_val) > 0) == y_val.bool()).float().mean().item()
    print(f"epoch={epoch} train_loss={running / n_batches:.4f} val_acc={accuracy:.4f}")
