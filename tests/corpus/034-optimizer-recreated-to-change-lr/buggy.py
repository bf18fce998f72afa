import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

LR0, EPOCHS, BATCH = 0.08, 7, 64

torch.manual_seed(2024)
X, Y = load_digits(return_X_y=True)
X = torch.tensor((X - 4.9) / 6.0, dtype=torch.float32).view(-1, 1, 8, 8)
Y = torch.tensor(Y)
p = torch.randperm(len(X))
X, Y = X[p], Y[p]


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(1, 10, 3)
        self.f = nn.Linear(10 * 3 * 3, 10)

    def forward(self, x):
        return self.f(F.max_pool2d(F.relu(self.c(x)), 2).flatten(1))


def lr_at(epoch):
    return LR0 * (0.7 ** epoch)


net = ConvNet()
optimizer = torch.optim.SGD(net.parameters(), lr=LR0, momentum=0.9, nesterov=True)
for epoch in range(EPOCHS):
    # learning rate decay
    optimizer = torch.optim.SGD(net.parameters(), lr=lr_at(epoch), momentum=0.9, nesterov=True)
    net.train()
    for idx in torch.randperm(1400).split(BATCH):
        loss = F.cross_entropy(net(X[idx]), Y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        acc = (net(X[1400:]).argmax(1) == Y[1400:]).float().mean().item()
    print("epoch %d  lr %.4f  loss %.3f  acc %.3f" % (epoch, lr_at(epoch), loss.item(), acc))
