import torch
import torch.nn as nn
from torch.amp import GradScaler, autocast

torch.manual_seed(64)
N_TOKENS, SEQ = 20, 10


def make_split(n):
    tokens = torch.randint(0, N_TOKENS, (n, SEQ))
    # label: does the first token occur again?
    label = (tokens[:, 1:] == tokens[:, :1]).any(1).float()
    return tokens, label


class Model(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.tok = nn.Embedding(N_TOKENS, d)
        self.pos = nn.Parameter(torch.randn(SEQ, d) * 0.1)
        layer = nn.TransformerEncoderLayer(d, 2, 64, dropout=0.0, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 1)
        self.fc = nn.Linear(d, 1)

    def forward(self, t):
        return self.fc(self.enc(self.tok(t) + self.pos)[:, 0]).squeeze(-1)


tokens, label = make_split(960)
val_tokens, val_label = make_split(240)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scaler = GradScaler("cpu", init_scale=256.0)
loss_fn = nn.BCEWithLogitsLoss()

for epoch in range(5):
    model.train()
    for idx in torch.randperm(len(tokens)).split(32):
        optimizer.zero_grad()
        with autocast("cpu", dtype=torch.bfloat16):
            loss = loss_fn(model(tokens[idx]), label[idx])
        scaler.scale(loss).backward()
        optimizer.step()
        scaler.update()
    model.eval()
    with torch.no_grad():
        acc = ((model(val_tokens) > 0).float() == val_label).float().mean().item()
    print(f"epoch {epoch} loss {loss.item():.4f} acc {acc:.3f}")
