# expect: nothing
import torch


class Trainer:
    def __init__(self, net):
        self.net = net
        self.opt = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True)

    def update(self, batch, target):
        pred = self.net(batch)
        loss = torch.nn.functional.mse_loss(pred, target)
        self.net.zero_grad()
        loss.backward()
        self.opt.step()
        return float(loss)


torch.manual_seed(1)
trainer = Trainer(torch.nn.Linear(4, 1))
for i in range(20):
    a = torch.randn(16, 4)
    trainer.update(a, a.sum(1, keepdim=True))
