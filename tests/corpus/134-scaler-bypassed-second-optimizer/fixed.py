import torch
import torch.nn as nn
from torch.amp import GradScaler, autocast

torch.manual_seed(134)
VOCAB, CLASSES = 50, 4
label_of = torch.randint(0, CLASSES, (VOCAB,))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def forward(self, ids):
        return self.mlp(self.emb(ids).mean(1))


model = Bag()
opt_emb = torch.optim.SGD(model.emb.parameters(), lr=0.5)
opt_mlp = torch.optim.Adam(model.mlp.parameters(), lr=3e-3)
scaler = GradScaler("cpu", init_scale=256.0)
for step in range(1, 161):
    ids = torch.randint(0, VOCAB, (64, 1)).expand(-1, 5)
    with autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(ids).float(), label_of[ids[:, 0]])
    opt_emb.zero_grad()
    opt_mlp.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(opt_emb)
    scaler.step(opt_mlp)
    scaler.update()
    if step % 40 == 0:
        print(step, round(loss.item(), 4))
