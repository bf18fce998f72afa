import torch
import torch.nn as nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        first, stride = (info.id, info.num_workers) if info else (0, 1)
        for i in range(first, self.n, stride):
            g = torch.Generator().manual_seed(i)
            x = torch.randn(5, generator=g)
            yield x, (x[0] * x[1] > 0).float()


if __name__ == "__main__":
    torch.manual_seed(57)
    model = nn.Sequential(nn.Linear(5, 24), nn.ReLU(), nn.Linear(24, 1), nn.Flatten(0))
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    loader = DataLoader(Stream(400), batch_size=25, num_workers=2)
    for epoch in range(3):
        n = 0
        for x, y in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            n += len(x)
        print(epoch, n, round(loss.item(), 4))
