import torch
import torch.nn as nn

torch.manual_seed(86)
V, T = 6, 24                                     # blank is 0


def sample(n_sym):
    tgt = torch.randint(1, V, (n_sym,))
    reps = torch.multinomial(torch.ones(n_sym), T - n_sym, replacement=True).bincount(minlength=n_sym) + 1
    frames = tgt.repeat_interleave(reps)
    return nn.functional.one_hot(frames, V).float() + 0.2 * torch.randn(T, V), tgt


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(V, 24, bidirectional=True), nn.Linear(48, V)

    def forward(self, x):
        return self.fc(self.rnn(x)[0]).log_softmax(-1)


net = Net()
ctc = nn.CTCLoss(zero_infinity=True)
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for n_sym in (2, 2, 3, 3, 4, 4):                 # curriculum: short targets first
    for _ in range(10):
        xs, ts = zip(*[sample(n_sym) for _ in range(16)])
        loss = ctc(net(torch.stack(xs, 1)), torch.cat(ts), torch.full((16,), T), torch.full((16,), n_sym))
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(n_sym, round(loss.item(), 4))
