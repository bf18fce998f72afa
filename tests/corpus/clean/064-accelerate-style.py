import contextlib
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_regression


class PreparedOptimizer:
    """steps and clears only when gradients are synchronised, like accelerate's wrapper"""

    def __init__(self, opt, acc):
        self.optimizer, self.acc = opt, acc

    def step(self):
        if self.acc.sync_gradients:
            self.optimizer.step()

    def zero_grad(self):
        if self.acc.sync_gradients:
            self.optimizer.zero_grad()


class Accelerator:
    def __init__(self, gradient_accumulation_steps=1):
        self.n, self.i, self.sync_gradients = gradient_accumulation_steps, 0, True

    def prepare(self, model, opt, loader):
        self.total = len(loader)
        return model, PreparedOptimizer(opt, self), loader

    @contextlib.contextmanager
    def accumulate(self, model):
        self.i += 1
        self.sync_gradients = self.i % self.n == 0 or self.i % self.total == 0
        yield

    def backward(self, loss):
        (loss / self.n).backward()

    def clip_grad_norm_(self, params, v):
        return nn.utils.clip_grad_norm_(params, v)


torch.manual_seed(64)
X, y = make_regression(480, 8, noise=2.0, random_state=0)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
accelerator = Accelerator(gradient_accumulation_steps=4)
model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
model, optimizer, loader = accelerator.prepare(model, torch.optim.Adam(model.parameters(), 5e-3),
                                               DataLoader(TensorDataset(X, y), 20, shuffle=True))
for epoch in range(8):
    for xb, yb in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(xb), yb)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    if epoch % 2:
        print(epoch, round(loss.item(), 4))
