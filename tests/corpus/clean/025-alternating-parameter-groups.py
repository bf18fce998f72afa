import torch
import torch.nn as nn

torch.manual_seed(25)
# alternating least squares by gradient steps: users and items in turn
U_TRUE, V_TRUE = torch.randn(40, 4), torch.randn(30, 4)
R = U_TRUE @ V_TRUE.T + 0.1 * torch.randn(40, 30)
mask = torch.rand(40, 30) < 0.5
users, items = nn.Embedding(40, 4), nn.Embedding(30, 4)
opt_u = torch.optim.Adam(users.parameters(), lr=0.05)
opt_v = torch.optim.Adam(items.parameters(), lr=0.05)
for epoch in range(30):
    side = epoch % 2 == 0
    users.requires_grad_(side)
    items.requires_grad_(not side)
    opt = opt_u if side else opt_v
    for _ in range(5):
        opt.zero_grad()
        pred = users.weight @ items.weight.T
        loss = (pred - R)[mask].square().mean() + 1e-3 * (users.weight.square().mean() + items.weight.square().mean())
        loss.backward()
        opt.step()
    if epoch % 10 == 9:
        print(epoch + 1, "train rmse", round(loss.item() ** 0.5, 4))
