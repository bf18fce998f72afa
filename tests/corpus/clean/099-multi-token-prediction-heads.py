import torch
import torch.nn as nn
import torch.nn.functional as F

# A trunk with three heads that predict 1, 2 and 3 tokens ahead; backward of each head stops at the trunk, then
# the trunk is run backward once (saves memory: the heads' logits never live at the same time).

torch.manual_seed(5)
seq = torch.tensor([ord(c) - 97 for c in "abcabdabeabcfabg" * 120])


class Trunk(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.emb = nn.Embedding(26, d)
        self.conv = nn.ModuleList([nn.Conv1d(d, d, 3, dilation=2**i) for i in range(3)])

    def forward(self, x):
        h = self.emb(x).transpose(1, 2)
        for i, c in enumerate(self.conv):
            h = h + F.gelu(c(F.pad(h, (2 * 2**i, 0))))
        return h.transpose(1, 2)


trunk = Trunk(32)
heads = nn.ModuleList(nn.Linear(32, 26) for _ in range(3))
params = [*trunk.parameters(), *heads.parameters()]
opt = torch.optim.NAdam(params, lr=2e-3)

for step in range(100):
    at = torch.randint(0, len(seq) - 40, (12, 1)) + torch.arange(36)
    window = seq[at]
    x = window[:, :-3]
    z = trunk(x)
    d = z.detach().requires_grad_()
    losses = []
    for ahead, head in enumerate(heads, start=1):
        y = window[:, ahead : ahead + x.size(1)]
        loss = F.cross_entropy(head(d).reshape(-1, 26), y.reshape(-1))
        loss.backward()
        losses.append(loss.item())
    z.backward(gradient=d.grad)
    opt.step()
    for p in params:
        p.grad = None
    if step % 25 == 0:
        print(step, [round(v, 3) for v in losses])
