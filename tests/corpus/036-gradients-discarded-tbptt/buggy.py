import torch
import torch.nn as nn

torch.manual_seed(28)
SEQ_LEN, CHUNK, HIDDEN = 48, 12, 20


class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.lstm = nn.LSTM(1, HIDDEN)
        self.lin = nn.Linear(HIDDEN, 1)

    def forward(self, x, hc):
        out, hc = self.lstm(x, hc)
        return self.lin(out), hc


def delayed_copy(batch, delay=3):
    # sequence first
    x = torch.randn(SEQ_LEN, batch, 1)
    y = torch.zeros_like(x)
    y[delay:] = x[:-delay]
    return x, y


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
loss_fn = nn.MSELoss()
n_chunks = SEQ_LEN // CHUNK

for epoch in range(6):
    epoch_loss = 0.0
    for _ in range(12):
        x, y = delayed_copy(24)
        hc = (torch.zeros(1, 24, HIDDEN), torch.zeros(1, 24, HIDDEN))
        for k in range(n_chunks):
            optimizer.zero_grad()
            hc = tuple(h.detach() for h in hc)
            out, hc = net(x[k * CHUNK:(k + 1) * CHUNK], hc)
            loss = loss_fn(out, y[k * CHUNK:(k + 1) * CHUNK]) / n_chunks
            loss.backward()
            epoch_loss += loss.item()
        optimizer.step()
    print('Epoch [{}/6], Loss: {:.4f}'.format(epoch + 1, epoch_loss / 12))
