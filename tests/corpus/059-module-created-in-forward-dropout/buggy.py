import torch
from torch import nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

torch.manual_seed(7)


class TumourNet(nn.Module):
    def __init__(self, n_in, hidden=32, p=0.5):
        super().__init__()
        self.fc1 = nn.Linear(n_in, hidden)
        self.fc2 = nn.Linear(hidden, 1)
        self.p = p

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = nn.Dropout(self.p)(x)
        return self.fc2(x).squeeze(1)


X, y = load_breast_cancer(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.3, random_state=0, stratify=y)
Xtr, Xte = torch.tensor(Xtr, dtype=torch.float32), torch.tensor(Xte, dtype=torch.float32)
ytr, yte = torch.tensor(ytr, dtype=torch.float32), torch.tensor(yte, dtype=torch.float32)

net = TumourNet(Xtr.shape[1])
optim = torch.optim.AdamW(net.parameters(), lr=2e-3)
bce = nn.BCEWithLogitsLoss()

for epoch in range(1, 16):
    net.train()
    for idx in torch.randperm(len(Xtr)).split(32):
        optim.zero_grad()
        loss = bce(net(Xtr[idx]), ytr[idx])
        loss.backward()
        optim.step()
    net.eval()
    with torch.no_grad():
        logits = net(Xte)
        val, acc = bce(logits, yte), ((logits > 0) == (yte > 0.5)).float().mean()
    if epoch % 5 == 0:
        print("epoch %2d  val loss %.4f  acc %.3f" % (epoch, val, acc))
