import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(17)


class GraphConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(i, o))
        self.bias = nn.Parameter(torch.zeros(o))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConv(nfeat, nhid)
        self.gc2 = GraphConv(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


def planted_partition(n=150, k=3, p_in=0.12, p_out=0.02):
    labels = torch.arange(n) % k
    same = labels[:, None] == labels[None]
    prob = torch.where(same, torch.tensor(p_in), torch.tensor(p_out))
    upper = torch.triu(torch.rand(n, n) < prob, 1).float()
    a = upper + upper.T + torch.eye(n)
    d = a.sum(1).rsqrt()
    feats = 0.7 * F.one_hot(labels, k).float() @ torch.randn(k, 12) + torch.randn(n, 12)
    return feats, d[:, None] * a * d[None], labels


features, adj, labels = planted_partition()
order = torch.randperm(len(labels))
idx_train, idx_val = order[:45], order[45:]
model = GCN(12, 16, 3, 0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)

for epoch in range(80):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
        acc_val = (output[idx_val].argmax(1) == labels[idx_val]).float().mean()
    if epoch % 20 == 19:
        print('Epoch: {:04d}'.format(epoch + 1), 'loss_train: {:.4f}'.format(loss_train.item()),
              'acc_val: {:.4f}'.format(acc_val.item()))
