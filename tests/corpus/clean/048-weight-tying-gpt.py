import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(48)
text = ("to be or not to be that is the question " * 40)
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
T, D = 16, 32


class GPT(nn.Module):
    def __init__(self, V):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, D), nn.Embedding(T, D)
        self.qkv, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.ff = nn.Sequential(nn.LayerNorm(D), nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))
        self.ln = nn.LayerNorm(D)
        self.lm_head = nn.Linear(D, V, bias=False)
        self.lm_head.weight = self.wte.weight            # tied on purpose

    def forward(self, idx):
        h = self.wte(idx) + self.wpe.weight[:idx.size(1)]
        q, k, v = self.qkv(h).chunk(3, -1)
        h = h + self.proj(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], is_causal=True)[:, 0])
        return self.lm_head(self.ln(h + self.ff(h)))


model = GPT(len(chars))
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=5e-3)
for it in range(1, 121):
    i = torch.randint(0, len(data) - T - 1, (24,))
    win = data[i[:, None] + torch.arange(T + 1)]
    logits = model(win[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, len(chars)), win[:, 1:].reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 40 == 0:
        print(it, round(loss.item(), 3))
