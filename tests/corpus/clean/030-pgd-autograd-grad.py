import torch
from torch import nn

torch.manual_seed(30)


def pgd(model, x, y, loss_fn, eps=0.3, alpha=0.1, iters=3):
    adv = x + torch.empty_like(x).uniform_(-eps, eps)
    for _ in range(iters):
        adv = adv.detach().requires_grad_()
        grad, = torch.autograd.grad(loss_fn(model(adv), y), adv)
        adv = adv + alpha * grad.sign()
        adv = x + (adv - x).clamp(-eps, eps)
    return adv.detach()


model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(0))
loss_fn = nn.BCEWithLogitsLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.2)
for step in range(1, 121):
    y = torch.randint(0, 2, (64,)).float()
    x = torch.randn(64, 2) * 0.5 + (2 * y[:, None] - 1)
    adv = pgd(model, x, y, loss_fn)
    loss = loss_fn(model(adv), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, round(loss.item(), 4))
