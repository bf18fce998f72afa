import json
import pathlib

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, IterableDataset


def write_log(path, n=300):
    g = torch.Generator().manual_seed(3)
    with open(path, "w") as f:
        for _ in range(n):
            x = torch.randn(6, generator=g)
            f.write(json.dumps({"x": x.tolist(), "y": float(x[:3].sum() > x[3:].sum())}) + "\n")


class LogReader(IterableDataset):
    def __init__(self, path):
        self.path = path

    def __iter__(self):
        with open(self.path) as f:
            for i, line in enumerate(f):
                record = json.loads(line)
                yield torch.tensor(record["x"]), torch.tensor(record["y"])


if __name__ == "__main__":
    path = pathlib.Path("events.jsonl")
    write_log(path)
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    loader = DataLoader(LogReader(path), batch_size=20, num_workers=2)
    for epoch in range(3):
        seen = 0
        for x, y in loader:
            loss = nn.functional.binary_cross_entropy_with_logits(net(x).squeeze(1), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            seen += len(x)
        print(f"epoch {epoch}: {seen} records, loss {loss.item():.4f}")
