# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
vgg = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)).eval()
for p in vgg.parameters():
    p.requires_grad_(False)
goal = vgg(torch.rand(1, 3, 16, 16))
image = torch.rand(1, 3, 16, 16, requires_grad=True)
opt = torch.optim.Adam([image], lr=0.05)
for it in range(30):
    opt.zero_grad()
    loss = nn.functional.mse_loss(vgg(image), goal)
    loss.backward()
    opt.step()
    with torch.no_grad():
        image.clamp_(0, 1)
