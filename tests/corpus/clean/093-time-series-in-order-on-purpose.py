"""Online learning: the stream is read once, in temporal order, predict first and learn then (prequential)."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(93)
t = torch.arange(2000, dtype=torch.float32)
series = torch.sin(t / 15) + 0.3 * torch.sin(t / 4) + 0.05 * torch.randn(2000)
windows = series.unfold(0, 17, 1)
stream = DataLoader(TensorDataset(windows[:, :16], windows[:, 16:]), batch_size=16, shuffle=False)
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
errors = []
for step, (x, y) in enumerate(stream, 1):
    pred = model(x)
    loss = nn.functional.mse_loss(pred, y)
    errors.append(loss.item())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0:
        print(step, round(sum(errors[-30:]) / 30, 4))
