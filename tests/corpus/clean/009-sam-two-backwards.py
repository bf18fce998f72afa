import torch
import torch.nn as nn
from sklearn.datasets import make_moons


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, rho=0.05, **kw):
        super().__init__(params, dict(rho=rho, **kw))
        self.base = base(self.param_groups, **kw)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def first_step(self):
        norm = torch.norm(torch.stack([p.grad.norm() for g in self.param_groups for p in g["params"]]))
        for g in self.param_groups:
            for p in g["params"]:
                e = p.grad * (g["rho"] / (norm + 1e-12))
                p.add_(e)
                self.state[p]["e"] = e
        self.zero_grad()

    @torch.no_grad()
    def second_step(self):
        for g in self.param_groups:
            for p in g["params"]:
                p.sub_(self.state[p]["e"])
        self.base.step()
        self.zero_grad()


torch.manual_seed(9)
X, y = make_moons(400, noise=0.2, random_state=9)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
model = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 2))
opt = SAM(model.parameters(), torch.optim.SGD, rho=0.05, lr=0.1, momentum=0.9)
ce = nn.CrossEntropyLoss()
for epoch in range(8):
    for i in torch.randperm(400).split(40):
        loss = ce(model(X[i]), y[i])
        loss.backward()
        opt.first_step()
        ce(model(X[i]), y[i]).backward()
        opt.second_step()
    print(epoch, round(loss.item(), 4))
