# iris classification
import torch
import torch.nn as nn
import numpy as np
from sklearn.datasets import load_iris

torch.manual_seed(0); np.random.seed(0)

iris = load_iris()
x = (iris.data - iris.data.mean(axis=0)) / iris.data.std(axis=0)
y = iris.target
shuffle = np.random.permutation(150)
x, y = x[shuffle], y[shuffle]
xtrain, ytrain = torch.Tensor(x[:120]), torch.LongTensor(y[:120])
xtest, ytest = torch.Tensor(x[120:]), torch.LongTensor(y[120:])


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.layer1 = nn.Linear(4, 20)
        self.layer2 = nn.Linear(20, 3)

    def forward(self, x):
        x = torch.relu(self.layer1(x))
        return self.layer2(x)


net = Net()
opt = torch.optim.Adam(net.parameters(), lr=0.01)
lossfn = nn.CrossEntropyLoss()

# full batch
for i in range(100):
    opt.zero_grad()
    yhat = net(xtrain)
    loss = lossfn(yhat, ytrain)
    loss.backward()
    opt.step()
    if i % 20 == 19:
        with torch.no_grad():
            correct = (net(xtest).argmax(1) == ytest).sum().item()
        print("iter %d loss %.4f test %d/30" % (i + 1, loss.item(), correct))
