# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
value = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=1e-3)
for it in range(10):
    with torch.no_grad():
        s = torch.randn(128, 4)
        dist = torch.distributions.Categorical(logits=policy(s))
        a = dist.sample()
        old = dist.log_prob(a)
        adv = (a == (s[:, 0] > 0)).float() - value(s).squeeze(1)
        ret = adv + value(s).squeeze(1)
    for _ in range(4):
        for idx in torch.randperm(128).split(32):
            dist = torch.distributions.Categorical(logits=policy(s[idx]))
            ratio = (dist.log_prob(a[idx]) - old[idx]).exp()
            surrogate = torch.min(ratio * adv[idx], ratio.clamp(0.8, 1.2) * adv[idx])
            loss = -surrogate.mean() + 0.5 * (value(s[idx]).squeeze(1) - ret[idx]).pow(2).mean()
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            opt.step()
