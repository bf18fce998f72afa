import torch
import torch.multiprocessing as mp
import torch.nn as nn


def train(rank, model):
    torch.manual_seed(rank)
    opt = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(60):
        x = torch.randn(32, 3)
        loss = nn.functional.mse_loss(model(x), x.sum(1, keepdim=True).sin())
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(rank, round(loss.item(), 4))


if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 24), nn.Tanh(), nn.Linear(24, 1))
    model.share_memory()
    mp.spawn(train, args=(model,), nprocs=2)
    with torch.no_grad():
        x = torch.randn(500, 3)
        print("shared model", round(nn.functional.mse_loss(model(x), x.sum(1, keepdim=True).sin()).item(), 4))
