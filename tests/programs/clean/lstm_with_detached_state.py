# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
rnn, head = nn.LSTM(4, 16, num_layers=2, dropout=0.1, batch_first=True), nn.Linear(16, 4)
opt = torch.optim.Adam([*rnn.parameters(), *head.parameters()], lr=1e-3)
state = None
for it in range(30):
    x = torch.randn(8, 10, 4)
    out, state = rnn(x, state)
    state = tuple(s.detach() for s in state)
    loss = nn.functional.mse_loss(head(out), x)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([*rnn.parameters(), *head.parameters()], 1.0)
    opt.step()
