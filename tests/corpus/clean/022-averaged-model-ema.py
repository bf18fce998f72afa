import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

torch.manual_seed(22)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
dl = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=50, shuffle=True)
net = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10))
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.95))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(4):
    net.train()
    for xb, yb in dl:
        opt.zero_grad()
        loss = nn.functional.cross_entropy(net(xb), yb)
        loss.backward()
        opt.step()
        ema.update_parameters(net)
    net.eval()
    ema.eval()
    with torch.no_grad():
        raw, avg = [(m(x[1400:]).argmax(1) == y[1400:]).float().mean().item() for m in (net, ema)]
    print(f"epoch {epoch} raw {raw:.3f} ema {avg:.3f}")
