import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(31)
d = load_digits()
img = lambda i: torch.tensor(d.images[i], dtype=torch.float32)[None, None] / 8 - 1
content, style = img(0), img(7)
features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()).eval()
for p in features.parameters():
    p.requires_grad_(False)


def gram(f):
    f = f.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[-1]


with torch.no_grad():
    target_content, target_gram = features(content), gram(features(style))
image = content.clone().requires_grad_(True)
opt = torch.optim.Adam([image], lr=0.05)
for it in range(1, 101):
    opt.zero_grad()
    f = features(image)
    loss = F.mse_loss(f, target_content) + 100 * F.mse_loss(gram(f), target_gram)
    loss.backward()
    opt.step()
    with torch.no_grad():
        image.clamp_(-1, 1)
    if it % 25 == 0:
        print(it, f"{loss.item():.5f}")
