"""Momentum contrast: a query encoder, a key encoder that follows it, and a queue of negatives."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def encoder(inputs=32, d=16):
    return nn.Sequential(nn.Linear(inputs, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, d))


class MoCo(nn.Module):
    def __init__(self, d=16, size=256, m=0.99, temperature=0.1):
        super().__init__()
        self.m, self.temperature, self.size = m, temperature, size
        self.encoder_q, self.encoder_k = encoder(d=d), encoder(d=d)
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data.copy_(q.data)
            k.requires_grad = False
        self.register_buffer("queue", F.normalize(torch.randn(d, size), dim=0))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def follow(self):
        for q, k in zip(self.encoder_q.parameters(), self.encoder_k.parameters()):
            k.data.mul_(self.m).add_(q.data, alpha=1.0 - self.m)

    @torch.no_grad()
    def enqueue(self, keys):
        start = int(self.pointer)
        self.queue[:, start : start + len(keys)] = keys.T
        self.pointer[0] = (start + len(keys)) % self.size

    def forward(self, view_q, view_k):
        q = F.normalize(self.encoder_q(view_q), dim=1)
        with torch.no_grad():
            self.follow()
            k = F.normalize(self.encoder_k(view_k), dim=1)
        positive = (q * k).sum(dim=1, keepdim=True)
        negative = q @ self.queue.clone()
        logits = torch.cat([positive, negative], dim=1) / self.temperature
        self.enqueue(k)
        return logits, torch.zeros(len(q), dtype=torch.long)


def augment(x):
    return x + 0.3 * torch.randn_like(x), x * (torch.rand_like(x) > 0.2)


def main():
    torch.manual_seed(0)
    centres = torch.randn(20, 32)
    data = centres.repeat_interleave(40, 0) + 0.4 * torch.randn(800, 32)
    model = MoCo()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9, weight_decay=1e-4)
    for epoch in range(4):
        losses = []
        for index in torch.randperm(800).split(64):
            if len(index) < 64:
                continue
            logits, labels = model(*augment(data[index]))
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(epoch, sum(losses) / len(losses))


if __name__ == "__main__":
    main()
