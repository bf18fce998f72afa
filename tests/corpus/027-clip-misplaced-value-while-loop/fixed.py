import torch
from torch import nn
from torch.nn.utils import clip_grad_value_

torch.manual_seed(31)
g = torch.Generator().manual_seed(31)


def parity_batch(n=64, t=8):
    bits = torch.randint(0, 2, (n, t), generator=g)
    return bits.float().mul(2).sub(1).unsqueeze(-1), bits.cumsum(1) % 2


class ParityRNN(nn.Module):
    def __init__(self, h=24):
        super().__init__()
        self.cell = nn.RNNCell(1, h)
        self.read = nn.Linear(h, 2)

    def forward(self, x):
        h = x.new_zeros(x.size(0), self.cell.hidden_size)
        outs = []
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            outs.append(self.read(h))
        return torch.stack(outs, 1)


rnn = ParityRNN()
adam = torch.optim.Adam(rnn.parameters(), 4e-3)
it, acc = 0, 0.0
while it < 300 and acc < 0.995:
    x, y = parity_batch()
    adam.zero_grad()
    loss = nn.functional.cross_entropy(rnn(x).flatten(0, 1), y.flatten())
    loss.backward()
    clip_grad_value_(rnn.parameters(), 0.1)
    adam.step()
    it += 1
    if it % 50 == 0:
        with torch.no_grad():
            x, y = parity_batch(256)
            acc = (rnn(x).argmax(-1) == y).float().mean().item()
        print(f"iteration {it}: loss {loss.item():.4f} accuracy {acc:.3f}")
