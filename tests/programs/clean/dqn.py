# expect: nothing
import copy

import torch
from torch import nn

torch.manual_seed(0)
q = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
target = copy.deepcopy(q)
opt = torch.optim.Adam(q.parameters(), lr=1e-3)
memory = [(torch.randn(4), i % 2, float(i % 3), torch.randn(4)) for i in range(200)]
for it in range(60):
    with torch.no_grad():
        q(torch.randn(1, 4)).argmax(1).item()
    batch = [memory[i] for i in torch.randint(0, 200, (32,))]
    s, a, r, n = (torch.stack([torch.as_tensor(b[k]) for b in batch]) for k in range(4))
    with torch.no_grad():
        goal = r.float() + 0.9 * target(n).max(1).values
    loss = nn.functional.smooth_l1_loss(q(s).gather(1, a[:, None]).squeeze(1), goal)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    if it % 20 == 19:
        target.load_state_dict(q.state_dict())
