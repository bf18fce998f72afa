import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

torch.manual_seed(14)
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
params = {k: v.detach().clone() for k, v in net.named_parameters()}
velocity = {k: torch.zeros_like(v) for k, v in params.items()}


def loss_fn(params, x, y):
    return nn.functional.mse_loss(functional_call(net, params, (x,)), y)


step_fn = grad_and_value(loss_fn)
per_sample = vmap(lambda p, a, b: grad_and_value(loss_fn)(p, a[None], b[None]), in_dims=(None, 0, 0))
for it in range(1, 201):
    x = torch.randn(64, 4)
    y = torch.sin(x[:, :1]) + x[:, 1:2]
    grads, loss = step_fn(params, x, y)
    for k in params:
        velocity[k] = 0.9 * velocity[k] - 0.02 * grads[k]
        params[k] = params[k] + velocity[k]
    if it % 50 == 0:
        g, _ = per_sample(params, x, y)
        print(it, f"{loss.item():.4f}", f"gradient noise {g['0.weight'].std(0).mean().item():.4f}")
