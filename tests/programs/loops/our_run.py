import torch
from torch import nn
import loopwright as lw

torch.manual_seed(0)
X = torch.randn(64, 4)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, (X[:, 0] > 0).long()), batch_size=8)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
run = lw.Run(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
for step in run.loop(loader, epochs=2):
    data, labels = step.batch
    loss = nn.functional.cross_entropy(run.model(data), labels)
    step.backward(loss)
    step.update()
