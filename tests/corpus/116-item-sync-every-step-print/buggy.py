import torch
import torch.nn as nn

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
w_true = torch.randn(20, 1, device=device) / 4

for step in range(150):
    x = torch.randn(64, 20, device=device)
    y = x @ w_true
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    gnorm = sum(p.grad.norm().item() ** 2 for p in model.parameters()) ** 0.5
    print("step", step, "loss", loss.item(), "grad norm", gnorm)
