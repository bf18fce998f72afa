# expect: double-softmax @ lw.fit
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw

lw.seed(0)
x = torch.randn(256, 10)
y = (x[:, 0] > 0).long()
loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(dim=1))
lw.fit(model, torch.optim.Adam, nn.CrossEntropyLoss(), loader, epochs=3, progress=False)
