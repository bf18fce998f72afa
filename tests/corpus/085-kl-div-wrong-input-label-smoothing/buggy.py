import torch
import torch.nn as nn


class LabelSmoothing(nn.Module):
    def __init__(self, size, smoothing=0.1):
        super().__init__()
        self.criterion = nn.KLDivLoss(reduction="sum")
        self.size, self.smoothing = size, smoothing

    def forward(self, x, target):
        true_dist = torch.full_like(x, self.smoothing / (self.size - 1)).detach()
        true_dist.scatter_(1, target.unsqueeze(1), 1.0 - self.smoothing)
        return self.criterion(x, true_dist)


class Generator(nn.Module):
    def __init__(self, d_model, vocab):
        super().__init__()
        self.proj = nn.Linear(d_model, vocab)

    def forward(self, x):
        return torch.softmax(self.proj(x), dim=-1)


class Seq2Label(nn.Module):
    def __init__(self, vocab=11, d=32):
        super().__init__()
        self.embed = nn.Embedding(vocab, d)
        self.encoder = nn.LSTM(d, d, batch_first=True, bidirectional=True)
        self.generator = Generator(2 * d, vocab)

    def forward(self, src):
        return self.generator(self.encoder(self.embed(src))[0])


def data_gen(vocab, batch, nbatches):
    for _ in range(nbatches):
        src = torch.randint(1, vocab, (batch, 10))
        yield src, src.cumsum(1) % vocab


def run_epoch(model, loss_compute, opt, V):
    total, tokens = 0.0, 0
    for src, tgt in data_gen(V, 30, 30):
        out = model(src)
        loss = loss_compute(out.view(-1, V), tgt.reshape(-1)) / tgt.numel()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        total += loss.item() * tgt.numel()
        tokens += tgt.numel()
    return total / tokens


V = 11
torch.manual_seed(0)
model = Seq2Label(V)
opt = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98), eps=1e-9)
for epoch in range(4):
    model.train()
    print("epoch", epoch, "loss %.4f" % run_epoch(model, LabelSmoothing(V), opt, V))
