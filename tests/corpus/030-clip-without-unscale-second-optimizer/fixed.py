import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(16)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2, padding=1)

    def forward(self, x):
        return F.relu(self.conv2(F.relu(self.conv1(x)))).mean((2, 3))


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, z):
        return self.fc(z)


def stripes(n):
    # four stripe directions + noise
    r = torch.arange(12).view(12, 1).expand(12, 12)
    c = torch.arange(12).view(1, 12).expand(12, 12)
    pats = torch.stack([(r % 4 < 2), (c % 4 < 2), ((r + c) % 4 < 2), ((r - c) % 4 < 2)]).float() * 2 - 1
    y = torch.randint(0, 4, (n,))
    return pats[y].unsqueeze(1) + 0.7 * torch.randn(n, 1, 12, 12), y


encoder, head = Encoder(), Head()
opt_e = torch.optim.SGD(encoder.parameters(), lr=0.2, momentum=0.9)
opt_h = torch.optim.SGD(head.parameters(), lr=0.2, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2 ** 14)

for step in range(1, 121):
    x, y = stripes(32)
    with torch.amp.autocast("cpu", dtype=torch.bfloat16):
        logits = head(encoder(x))
    loss = F.cross_entropy(logits.float(), y)
    opt_e.zero_grad()
    opt_h.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(opt_e)
    scaler.unscale_(opt_h)
    nn.utils.clip_grad_norm_(encoder.parameters(), 0.5)
    nn.utils.clip_grad_norm_(head.parameters(), 0.5)
    scaler.step(opt_e)
    scaler.step(opt_h)
    scaler.update()
    if step % 30 == 0:
        with torch.no_grad():
            xt, yt = stripes(200)
            acc = (head(encoder(xt)).argmax(1) == yt).float().mean().item()
        print(f"step {step}: loss {loss.item():.3f} acc {acc:.3f}")
