"""Toy seq2seq: reverse a string of digits (encoder GRU, decoder GRU with teacher forcing)."""
import argparse
import random

import torch
import torch.nn as nn

PAD, SOS = 10, 11


class Encoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.embed = nn.Embedding(12, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, src):
        return self.gru(self.embed(src))[1]


class Decoder(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.embed = nn.Embedding(12, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.out = nn.Linear(dim, 10)

    def forward(self, tgt_in, h):
        return self.out(self.gru(self.embed(tgt_in), h)[0])


def batch(n, length):
    src = torch.randint(0, 10, (n, length))
    tgt = src.flip(1)
    tgt_in = torch.cat([torch.full((n, 1), SOS), tgt[:, :-1]], 1)
    return src, tgt_in, tgt


def train(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    encoder, decoder = Encoder(args.dim), Decoder(args.dim)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=args.lr)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(args.epochs):
        encoder.train(), decoder.train()
        for _ in range(args.steps):
            src, tgt_in, tgt = batch(args.batch_size, random.choice([3, 4]))
            logits = decoder(tgt_in, encoder(src))
            loss = criterion(logits.reshape(-1, 10), tgt.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, args.clip)
            optimizer.step()
        encoder.eval(), decoder.eval()
        with torch.no_grad():
            src, tgt_in, tgt = batch(256, 4)
            acc = (decoder(tgt_in, encoder(src)).argmax(-1) == tgt).float().mean().item()
        print(f"epoch {epoch} loss {loss.item():.3f} token acc {acc:.3f}")


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--dim", type=int, default=48)
    ap.add_argument("--lr", type=float, default=1e-2)
    ap.add_argument("--clip", type=float, default=0.25)
    ap.add_argument("--epochs", type=int, default=5)
    ap.add_argument("--steps", type=int, default=40)
    ap.add_argument("--batch-size", type=int, default=48)
    ap.add_argument("--seed", type=int, default=1)
    train(ap.parse_args())
