# expect: iterable-dataset-duplicated @ in loader:
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        g = torch.Generator().manual_seed(1)
        for i in range(128):
            x = torch.randn(4, generator=g)
            if True:
                yield x, x.sum(0, keepdim=True)


if __name__ == "__main__":
    loader = DataLoader(Stream(), batch_size=8, num_workers=2)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
