# expect: train-in-eval-mode @ model(inputs)
# says: and never in train mode: Dropout(p=0.2) never acted
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()

for it in range(30):
    if it % 5 == 0:
        model.eval()
        with torch.no_grad():
            print(it, criterion(model(x[200:]), y[200:]).item())
    ix = torch.randint(200, (32,))
    inputs, labels = x[ix], y[ix]
    optimizer.zero_grad()
    loss = criterion(model(inputs), labels)
    loss.backward()
    optimizer.step()
