# expect: nothing
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.0), nn.Linear(16, 1))
params = {k: v.detach().clone() for k, v in model.named_parameters()}


def loss_fn(params, x, y):
    return nn.functional.mse_loss(functional_call(model, params, (x,)), y)


for it in range(20):
    x = torch.randn(32, 4)
    y = x.sum(1, keepdim=True)
    grads = grad(loss_fn)(params, x, y)
    params = {k: p - 0.05 * grads[k] for k, p in params.items()}
    per_sample = vmap(grad(loss_fn), in_dims=(None, 0, 0))(params, x[:, None], y[:, None])
