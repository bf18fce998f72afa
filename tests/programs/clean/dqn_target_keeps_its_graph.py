# expect: nothing
# A target network that no optimizer holds: its gradients cost time and change nothing.
import torch
from torch import nn

torch.manual_seed(0)
q = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
target_q = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(q.parameters(), lr=1e-3)
for step in range(30):
    state, nxt = torch.randn(32, 4), torch.randn(32, 4)
    action, reward, done = torch.randint(0, 2, (32, 1)), torch.randn(32), torch.zeros(32)
    value = q(state).gather(1, action).squeeze(1)
    target = reward + 0.9 * (1 - done) * target_q(nxt).max(1).values
    loss = nn.functional.mse_loss(value, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        target_q.load_state_dict(q.state_dict())
