import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_regression


class UncertaintyWeightedLoss(nn.Module):
    """Kendall & Gal: sum_i exp(-s_i) * L_i + s_i, with trainable s_i."""

    def __init__(self, n_tasks):
        super().__init__()
        self.log_vars = nn.Parameter(torch.zeros(n_tasks))

    def forward(self, losses):
        losses = torch.stack(losses)
        return (torch.exp(-self.log_vars) * losses + self.log_vars).sum()


class SharedNet(nn.Module):
    def __init__(self, n_in, n_tasks):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(n_in, 48), nn.GELU())
        self.heads = nn.ModuleList([nn.Linear(48, 1) for _ in range(n_tasks)])

    def forward(self, x):
        z = self.shared(x)
        return [h(z) for h in self.heads]


def load():
    X, Y = make_regression(900, 12, n_informative=8, n_targets=3, noise=1.0, random_state=2)
    X = (X - X.mean(0)) / X.std(0)
    Y = (Y - Y.mean(0)) / Y.std(0)
    X, Y = torch.tensor(X).float(), torch.tensor(Y).float()
    Y = Y * torch.tensor([1.0, 0.2, 3.0])
    return TensorDataset(X[:700], Y[:700]), TensorDataset(X[700:], Y[700:])


def main():
    torch.manual_seed(2)
    train, test = load()
    loader = DataLoader(train, batch_size=50, shuffle=True)
    model, mtl = SharedNet(12, 3), UncertaintyWeightedLoss(3)
    optimizer = torch.optim.Adam([{"params": model.parameters()}, {"params": mtl.parameters(), "lr": 2e-2}], lr=5e-3)
    mse = nn.MSELoss()
    for epoch in range(8):
        model.train()
        for x, y in loader:
            task_losses = [mse(o.squeeze(1), y[:, i]) for i, o in enumerate(model(x))]
            loss = mtl(task_losses)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            xt, yt = test.tensors
            errs = [mse(o.squeeze(1), yt[:, i]).item() for i, o in enumerate(model(xt))]
        print(epoch, "test", [round(e, 4) for e in errs], "log_vars", [round(v, 3) for v in mtl.log_vars.tolist()])


if __name__ == "__main__":
    main()
