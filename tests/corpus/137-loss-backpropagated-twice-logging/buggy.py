import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(137)
x = torch.tensor(load_digits().data / 8 - 1, dtype=torch.float32)
loader = DataLoader(x, batch_size=100, shuffle=True)
enc = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
dec = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 64))
opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], lr=2e-3)
for epoch in range(5):
    for batch in loader:
        opt.zero_grad()
        code = enc(batch)
        recon = F.mse_loss(dec(code), batch)
        recon.backward(retain_graph=True)
        sparsity = code.abs().mean()
        loss = recon + 0.05 * sparsity
        loss.backward()
        opt.step()
    print(f"epoch {epoch} recon {recon.item():.4f} sparsity {sparsity.item():.4f}")
