import torch
import torch.nn as nn

torch.manual_seed(50)
stream = torch.sin(torch.linspace(0, 120, 1601)) + 0.1 * torch.randn(1601)
B, K = 8, 20
x = stream[:-1].view(B, -1, 1)
y = stream[1:].view(B, -1, 1)
lstm, head = nn.LSTM(1, 24, batch_first=True), nn.Linear(24, 1)
params = list(lstm.parameters()) + list(head.parameters())
opt = torch.optim.Adam(params, lr=5e-3)
for epoch in range(5):
    state, total = None, 0.0
    for t in range(0, x.size(1), K):         # in temporal order: the state is carried over
        out, state = lstm(x[:, t:t + K], state)
        state = tuple(s.detach() for s in state)
        loss = nn.functional.mse_loss(head(out), y[:, t:t + K])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        total += loss.item()
    print(epoch, round(total / (x.size(1) // K), 4))
