import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits


class LightningLikeModule(nn.Module):
    def training_step(self, batch, idx): ...
    def validation_step(self, batch, idx): ...
    def configure_optimizers(self): ...


class LitDigits(LightningLikeModule):
    def __init__(self, lr=2e-3):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))

    def training_step(self, batch, idx):
        x, y = batch
        return {"loss": F.cross_entropy(self.net(x), y)}

    def validation_step(self, batch, idx):
        x, y = batch
        return (self.net(x).argmax(1) == y).float().mean()

    def configure_optimizers(self):
        opt = torch.optim.Adam(self.parameters(), lr=self.lr)
        return [opt], [torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)]


class Trainer:
    def __init__(self, max_epochs, gradient_clip_val=None):
        self.max_epochs, self.clip = max_epochs, gradient_clip_val

    def fit(self, module, train, val):
        (opt,), (sched,) = module.configure_optimizers()
        self.validate(module, val, limit=2)               # sanity check before training
        for epoch in range(self.max_epochs):
            module.train()
            for i, batch in enumerate(train):
                def closure():
                    out = module.training_step(batch, i)
                    opt.zero_grad()
                    out["loss"].backward()
                    if self.clip:
                        nn.utils.clip_grad_norm_(module.parameters(), self.clip)
                    return out["loss"]
                loss = opt.step(closure)
            sched.step()
            print(epoch, f"loss {loss.item():.3f} val {self.validate(module, val):.3f}")

    @torch.no_grad()
    def validate(self, module, val, limit=None):
        module.eval()
        accs = [module.validation_step(b, i) for i, b in enumerate(val) if limit is None or i < limit]
        return torch.stack(accs).mean().item()


torch.manual_seed(63)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
Trainer(4, 1.0).fit(LitDigits(), DataLoader(TensorDataset(x[:1400], y[:1400]), 64, shuffle=True),
                    DataLoader(TensorDataset(x[1400:], y[1400:]), 100))
