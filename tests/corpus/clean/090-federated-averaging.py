import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset
from sklearn.datasets import load_digits


def client_update(global_model, loader, epochs=1):
    model = copy.deepcopy(global_model)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
    return model.state_dict(), len(loader.dataset)


torch.manual_seed(90)
d = load_digits()
ds = TensorDataset(torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target))
parts = torch.randperm(1500).chunk(4)
clients = [DataLoader(Subset(ds, p.tolist()), batch_size=25, shuffle=True) for p in parts]
server = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
xt, yt = ds.tensors[0][1500:], ds.tensors[1][1500:]
for rnd in range(4):
    results = [client_update(server, c) for c in clients]
    total = sum(n for _, n in results)
    server.load_state_dict({k: sum(s[k] * (n / total) for s, n in results) for k in server.state_dict()})
    server.eval()
    with torch.no_grad():
        print(rnd, (server(xt).argmax(1) == yt).float().mean().item())
