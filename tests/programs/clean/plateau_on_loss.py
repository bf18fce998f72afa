# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 10)
y = torch.randint(0, 2, (64,))
xv, yv = torch.randn(64, 10), torch.randint(0, 2, (64,))
loader = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)
best, state = float("inf"), None
for epoch in range(12):  # labels are noise: the validation loss rises from the first epoch on
    for inputs, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), labels)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        val = criterion(model(xv), yv).item()
    scheduler.step(val)
    if val < best:
        best, state = val, {k: v.clone() for k, v in model.state_dict().items()}
model.load_state_dict(state)
