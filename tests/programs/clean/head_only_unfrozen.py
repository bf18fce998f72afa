# expect: nothing
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)

backbone = nn.Sequential(nn.Linear(10, 32), nn.ReLU())
state = {k: torch.randn_like(v) * 0.3 for k, v in backbone.state_dict().items()}
backbone.load_state_dict(state)
head = nn.Linear(32, 2)
optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    for inputs, labels in loader:
        optimizer.zero_grad()
        criterion(head(backbone(inputs)), labels).backward()
        optimizer.step()
