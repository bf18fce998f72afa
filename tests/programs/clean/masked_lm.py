# expect: nothing
import torch
from torch import nn

torch.manual_seed(0)
embed = nn.Embedding(21, 16)
layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
head = nn.Linear(16, 21)
model = nn.Sequential(embed, layer, head)
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
for it in range(20):
    tokens = torch.randint(0, 20, (8, 12))
    masked = torch.rand(8, 12) < 0.3
    labels = torch.where(masked, tokens, -100)
    logits = model(torch.where(masked, 20, tokens))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
