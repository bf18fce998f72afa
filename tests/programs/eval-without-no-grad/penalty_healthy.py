# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(512, 2)
y = (x[:, 0] * x[:, 1] > 0).float()
model = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)


def penalty(inputs):
    inputs = inputs.clone().requires_grad_()
    slope = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)[0]
    return (slope.norm(dim=1) - 1).clamp(min=0).pow(2).mean()


def saliency(inputs):
    inputs = inputs.clone().requires_grad_()
    return torch.autograd.grad(outputs=model(inputs).sum(), inputs=inputs)[0].abs().mean(0)


for epoch in range(6):
    model.train()
    for rows in torch.randperm(512).split(64):
        loss = nn.functional.binary_cross_entropy_with_logits(model(x[rows]).squeeze(1), y[rows])
        optimizer.zero_grad()
        (loss + 0.1 * penalty(x[rows])).backward()
        optimizer.step()
    model.eval()
    print(loss.item(), saliency(x[:64]).tolist())
