# fine-tune a tiny "pretrained" tagger in bf16 to save memory
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(21)
VOCAB, TAGS, DIM = 40, 5, 32


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, DIM)
        self.norm = nn.LayerNorm(DIM)
        self.fc1 = nn.Linear(DIM, 64)
        self.fc2 = nn.Linear(64, TAGS)

    def forward(self, ids):
        return self.fc2(F.gelu(self.fc1(self.norm(self.emb(ids)))))


rule = torch.randint(0, TAGS, (VOCAB,))
model = Tagger()
model = model.to(torch.bfloat16)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
first = None
for step in range(200):
    ids = torch.randint(0, VOCAB, (16, 12))
    logits = model(ids)
    loss = F.cross_entropy(logits.float().flatten(0, 1), rule[ids].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    first = first or loss.item()
    if step % 50 == 49:
        print(f"{step + 1:4d} loss {loss.item():.4f} (first {first:.4f})")
