import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(40)


def simulate(n_per_class, seed):
    g = torch.Generator().manual_seed(seed)
    xs, ys = [], []
    for k in range(4):
        centre = 2.0 * torch.tensor([[(k % 2) - 0.5, (k // 2) - 0.5]])
        xs.append(centre + 0.5 * torch.randn(n_per_class, 2, generator=g))
        ys.append(torch.full((n_per_class,), k))
    return torch.cat(xs), torch.cat(ys)


def get_loaders(batch_size=25):
    loaders = {}
    for split, n in (("train", 200), ("val", 50)):
        ds = TensorDataset(*simulate(n, seed=n))
        loaders[split] = DataLoader(ds, batch_size=batch_size, shuffle=(split == "train"))
    return loaders


loaders = get_loaders()
net = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))
opt = torch.optim.SGD(net.parameters(), lr=0.2)
for epoch in range(6):
    for phase in ("train", "val"):
        net.train(phase == "train")
        loss_sum = hits = n = 0
        with torch.set_grad_enabled(phase == "train"):
            for x, y in loaders[phase]:
                out = net(x)
                loss = F.cross_entropy(out, y)
                if phase == "train":
                    opt.zero_grad()
                    loss.backward()
                    opt.step()
                loss_sum += loss.item() * len(x)
                hits += (out.argmax(1) == y).sum().item()
                n += len(x)
        print(f"{epoch} {phase:5s} loss {loss_sum / n:.3f} acc {hits / n:.3f}")
