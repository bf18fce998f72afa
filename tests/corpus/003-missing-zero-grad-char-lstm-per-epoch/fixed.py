import argparse
import torch
from torch import nn

TEXT = ("the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs. "
        "how vexingly quick daft zebras jump! sphinx of black quartz, judge my vow. ") * 8


class CharLSTM(nn.Module):
    def __init__(self, vocab, hidden):
        super().__init__()
        self.emb = nn.Embedding(vocab, 16)
        self.rnn = nn.LSTM(16, hidden, batch_first=True)
        self.out = nn.Linear(hidden, vocab)

    def forward(self, idx, state=None):
        h, state = self.rnn(self.emb(idx), state)
        return self.out(h), state


def get_streams(ids, batch):
    n = len(ids) // batch
    return ids[: n * batch].view(batch, n)


def main(args):
    torch.manual_seed(args.seed)
    chars = sorted(set(TEXT))
    stoi = {c: i for i, c in enumerate(chars)}
    streams = get_streams(torch.tensor([stoi[c] for c in TEXT]), args.batch)
    model = CharLSTM(len(chars), args.hidden)
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)
    crit = nn.CrossEntropyLoss()

    for epoch in range(args.epochs):
        state, total, n = None, 0.0, 0
        for i in range(0, streams.size(1) - 1, args.bptt):
            x = streams[:, i:i + args.bptt]
            y = streams[:, i + 1:i + 1 + args.bptt]
            x = x[:, : y.size(1)]
            logits, state = model(x, state)
            state = tuple(s.detach() for s in state)
            loss = crit(logits.flatten(0, 1), y.flatten())
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            total += loss.item()
            n += 1
        print("epoch %d, loss %.3f" % (epoch, total / n))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--lr", type=float, default=1e-2)
    p.add_argument("--hidden", type=int, default=48)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--bptt", type=int, default=20)
    p.add_argument("--epochs", type=int, default=10)
    p.add_argument("--seed", type=int, default=11)
    main(p.parse_args())
