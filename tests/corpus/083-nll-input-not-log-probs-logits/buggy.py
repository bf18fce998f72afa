from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
import torch
import torch.nn.functional as F

# %% data
data = load_wine()
X = (data.data - data.data.mean(0)) / data.data.std(0)
Xtr, Xva, ytr, yva = train_test_split(X, data.target, test_size=0.25, random_state=5, stratify=data.target)
Xtr, Xva = torch.tensor(Xtr).float(), torch.tensor(Xva).float()
ytr, yva = torch.tensor(ytr), torch.tensor(yva)

# %% model: two hand-written layers
torch.manual_seed(5)
w1 = (torch.randn(13, 20) / 13 ** 0.5).requires_grad_()
b1 = torch.zeros(20, requires_grad=True)
w2 = (torch.randn(20, 3) / 20 ** 0.5).requires_grad_()
b2 = torch.zeros(3, requires_grad=True)
params = [w1, b1, w2, b2]


def net(x):
    return F.relu(x @ w1 + b1) @ w2 + b2


# %% training
opt = torch.optim.SGD(params, lr=0.05)
for epoch in range(12):
    for idx in torch.randperm(len(Xtr)).split(19):
        loss = F.nll_loss(net(Xtr[idx]), ytr[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 3 == 2:
        with torch.no_grad():
            acc = (net(Xva).argmax(1) == yva).float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.3f} valid {acc:.3f}")
