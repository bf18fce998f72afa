# expect: nothing
# Time comes first after a transpose, in one model; a long series in order, in the other.
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        states, _ = self.rnn(x.transpose(0, 1))
        return self.out(states[-1]).squeeze(1)


class Sensors(Reader):
    def forward(self, x):
        states, _ = self.rnn(x)  # rows are moments, each with nine sensors
        return self.out(states.mean(1)).squeeze(1)


torch.manual_seed(0)
x = torch.randn(64, 9, 3)
for model, shuffle in ((Reader(), True), (Sensors(), False)):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch, target in DataLoader(TensorDataset(x, x[:, :, 0].sum(1)), 16, shuffle=shuffle):
        loss = nn.functional.mse_loss(model(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
