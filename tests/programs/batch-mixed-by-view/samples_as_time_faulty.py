# expect: batch-mixed-by-view @ nn.LSTM(
# says: takes the first axis for time: there lie the 16 samples of a shuffled batch
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1]).squeeze(1)


torch.manual_seed(0)
x = torch.randn(64, 9, 3)
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(4):
    for batch, target in DataLoader(TensorDataset(x, x[:, :, 0].sum(1)), 16, shuffle=True):
        loss = nn.functional.mse_loss(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
