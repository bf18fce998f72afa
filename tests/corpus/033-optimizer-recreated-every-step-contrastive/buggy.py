"""SimCLR in miniature: two noisy views of digit images, NT-Xent loss, linear probe at the end."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.manual_seed(12)
bunch = load_digits()
images = torch.tensor(bunch.data, dtype=torch.float32) / 8 - 1
labels = bunch.target
train_x, test_x = images[:1300], images[1300:]


def augment(x):
    mask = (torch.rand_like(x) > 0.2).float()
    return x * mask + 0.2 * torch.randn_like(x)


def nt_xent(z1, z2, tau=0.5):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    sim = z @ z.T / tau
    sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
    n = len(z1)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, target)


encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
projector = nn.Sequential(nn.ReLU(), nn.Linear(32, 16))
parameters = list(encoder.parameters()) + list(projector.parameters())


def update(batch):
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    z1, z2 = projector(encoder(augment(batch))), projector(encoder(augment(batch)))
    loss = nt_xent(z1, z2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


for epoch in range(5):
    losses = [update(train_x[i]) for i in torch.randperm(len(train_x)).split(100)]
    print(f"epoch {epoch}: nt-xent {sum(losses) / len(losses):.4f}")

with torch.no_grad():
    ftr, fte = encoder(train_x).numpy(), encoder(test_x).numpy()
probe = LogisticRegression(max_iter=200).fit(ftr[:300], labels[:300])
print(f"linear probe accuracy {probe.score(fte, labels[1300:]):.3f}")
