# expect: nothing
# The generator is set in a function that worker_init_fn calls, or through the data set's own name.
import functools

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Noisy(Dataset):
    def __init__(self):
        self.data = torch.randn(64, 4)
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        noise = torch.as_tensor(self.rng.normal(size=4), dtype=torch.float32)
        return self.data[index] + noise, self.data[index].sum(0, keepdim=True)


def seed_all(worker, base):
    here = get_worker_info()
    here.dataset.rng = np.random.default_rng(base + worker)


def through_a_function(worker):
    seed_all(worker, 5)


def through_the_name(worker):
    data.rng = np.random.default_rng(worker)


data = Noisy()

if __name__ == "__main__":
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for init in (through_a_function, functools.partial(seed_all, base=3), through_the_name):
        loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=2, worker_init_fn=init)
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
