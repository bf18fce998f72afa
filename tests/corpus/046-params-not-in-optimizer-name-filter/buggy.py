import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


class MiniViT(nn.Module):
    def __init__(self, dim=32, depth=1, heads=2, classes=10):
        super().__init__()
        self.patch = nn.Conv2d(1, dim, kernel_size=2, stride=2)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.1, batch_first=True, norm_first=True), depth,
            enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x)[:, 0]))


def param_groups(model, wd):
    """No weight decay on biases and norms."""
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        if name.endswith("weight") and p.ndim > 1:
            decay.append(p)
        elif name.endswith(("weight", "bias")):
            no_decay.append(p)
    return [{"params": decay, "weight_decay": wd}, {"params": no_decay, "weight_decay": 0.0}]


torch.manual_seed(50)
d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(d.target)
i = torch.randperm(len(x))
train = DataLoader(TensorDataset(x[i[:1300]], y[i[:1300]]), batch_size=65, shuffle=True)
vx, vy = x[i[1300:]], y[i[1300:]]

vit = MiniViT()
optimizer = torch.optim.AdamW(param_groups(vit, 0.05), lr=3e-3)
for epoch in range(4):
    vit.train()
    for xb, yb in train:
        loss = F.cross_entropy(vit(xb), yb, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vit.eval()
    with torch.no_grad():
        acc = (vit(vx).argmax(1) == vy).float().mean().item()
    print(f"epoch {epoch} loss {loss.item():.3f} val {acc:.3f} |cls_token| {vit.cls_token.norm().item():.3f}")
