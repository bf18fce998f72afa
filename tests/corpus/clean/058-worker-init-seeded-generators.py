import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Jittered(Dataset):
    def __init__(self):
        self.rng = np.random.default_rng()
        self.base = np.linspace(-1, 1, 200, dtype=np.float32)

    def __len__(self):
        return 200

    def __getitem__(self, i):
        x = self.base[i] + self.rng.normal(0, 0.02)
        return np.float32(x), np.float32(np.cos(3 * self.base[i]))


def reseed(worker_id):
    info = get_worker_info()
    info.dataset.rng = np.random.default_rng(info.seed)


def main():
    torch.manual_seed(58)
    net = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 1))
    opt = torch.optim.Adam(net.parameters(), lr=1e-2)
    loader = DataLoader(Jittered(), batch_size=20, shuffle=True, num_workers=2, worker_init_fn=reseed,
                        persistent_workers=True)
    for epoch in range(3):
        for x, y in loader:
            loss = nn.functional.mse_loss(net(x[:, None]), y[:, None])
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(epoch, round(loss.item(), 4))


if __name__ == "__main__":
    main()
