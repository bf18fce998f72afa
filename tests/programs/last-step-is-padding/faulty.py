# expect: last-step-is-padding @ loss.backward()
# says: of the rows that the embedding was given end in padding
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

torch.manual_seed(0)


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8, padding_idx=0)
        self.rnn = nn.GRU(8, 16, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, tokens, lengths):
        states, _ = self.rnn(self.embed(tokens))
        return self.out(states[:, -1])


model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(16):
    lengths = torch.randint(3, 12, (16,))
    rows = [torch.randint(1, 30, (n,)) for n in lengths.tolist()]
    target = torch.tensor([int(row[0] > 15) for row in rows])
    tokens = pad_sequence(rows, batch_first=True)
    loss = nn.functional.cross_entropy(model(tokens, lengths), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
