# expect: duplicate-worker-randomness @ in loader:
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Noisy(Dataset):
    def __init__(self):
        self.data = torch.randn(64, 4)
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        noise = torch.as_tensor(self.rng.normal(size=4), dtype=torch.float32)
        return self.data[index] + noise, self.data[index].sum(0, keepdim=True)


def reseed(worker):
    np.random.seed(torch.initial_seed() % 2**32)


if __name__ == "__main__":
    loader = DataLoader(Noisy(), batch_size=8, shuffle=True, num_workers=2, worker_init_fn=reseed)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
