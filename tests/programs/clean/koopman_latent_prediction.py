# expect: nothing
"""A latent state predicted from the one before, both trained; a decoder keeps the latent states apart."""
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
encoder, decoder, forward_model = nn.Linear(6, 3), nn.Linear(3, 6), nn.Linear(3, 3, bias=False)
parts = nn.ModuleList([encoder, decoder, forward_model])
optimizer = torch.optim.Adam(parts.parameters(), lr=0.01)
turn = torch.linalg.qr(torch.randn(6, 6)).Q
for step in range(60):
    x = torch.randn(32, 6)
    after = x @ turn
    z, z_after = encoder(x), encoder(after)
    loss = F.mse_loss(forward_model(z), z_after) + F.mse_loss(decoder(z), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
