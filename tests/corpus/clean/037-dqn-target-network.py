import random
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(37)
torch.manual_seed(37)


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(6, 32), nn.ReLU())
        self.adv, self.val = nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, s):
        h = self.f(s)
        a = self.adv(h)
        return self.val(h) + a - a.mean(1, keepdim=True)


online, target = QNet(), QNet()
target.load_state_dict(online.state_dict())
opt = torch.optim.Adam(online.parameters(), lr=3e-3)
eye, buf, pos = torch.eye(6), [], 0
for t in range(1, 501):
    if random.random() < max(0.1, 1 - t / 250):
        a = random.randrange(2)
    else:
        with torch.no_grad():
            a = online(eye[pos][None]).argmax().item()
    nxt = min(5, pos + 1) if a else max(0, pos - 1)
    r, done = (1.0, True) if nxt == 5 else (0.0, False)
    buf.append((pos, a, r, nxt, done))
    pos = 0 if done else nxt
    if t >= 64 and t % 2 == 0:
        s, a_, r_, s2, d_ = map(torch.tensor, zip(*random.sample(buf, 32)))
        with torch.no_grad():
            best = online(eye[s2]).argmax(1, keepdim=True)
            y = r_ + 0.9 * target(eye[s2]).gather(1, best).squeeze(1) * (~d_)
        q = online(eye[s]).gather(1, a_[:, None]).squeeze(1)
        loss = F.smooth_l1_loss(q, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if t % 50 == 0:
        target.load_state_dict(online.state_dict())
    if t % 125 == 0:
        print(t, round(loss.item(), 5))
