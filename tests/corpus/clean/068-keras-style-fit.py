import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Model(nn.Sequential):
    def compile_(self, optimizer, loss, metrics=()):
        self.optimizer_, self.loss_, self.metrics_ = optimizer(self.parameters()), loss, dict(metrics)

    def fit(self, x, y, batch_size=64, epochs=1, validation_split=0.0):
        n = int(len(x) * (1 - validation_split))
        history = []
        for epoch in range(epochs):
            self.train()
            logs, seen = dict.fromkeys(["loss", *self.metrics_], 0.0), 0
            for idx in torch.randperm(n).split(batch_size):
                out = self(x[idx])
                loss = self.loss_(out, y[idx])
                self.optimizer_.zero_grad()
                loss.backward()
                self.optimizer_.step()
                logs["loss"] += loss.item() * len(idx)
                for k, f in self.metrics_.items():
                    logs[k] += f(out.detach(), y[idx]) * len(idx)
                seen += len(idx)
            logs = {k: v / seen for k, v in logs.items()}
            if validation_split:
                logs |= {"val_" + k: v for k, v in self.evaluate(x[n:], y[n:]).items()}
            history.append(logs)
            print(f"Epoch {epoch + 1}/{epochs} - " + " - ".join(f"{k}: {v:.4f}" for k, v in logs.items()))
        return history

    @torch.no_grad()
    def evaluate(self, x, y):
        self.eval()
        out = self(x)
        return {"loss": self.loss_(out, y).item(), **{k: f(out, y) for k, f in self.metrics_.items()}}


torch.manual_seed(68)
d = load_digits()
model = Model(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10))
model.compile_(lambda p: torch.optim.RMSprop(p, lr=1e-3), nn.functional.cross_entropy,
               {"accuracy": lambda o, t: (o.argmax(1) == t).float().mean().item()})
model.fit(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target), epochs=4, validation_split=0.2)
