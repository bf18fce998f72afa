# expect: nothing
import torch

torch.manual_seed(0)
x = torch.linspace(-1, 1, 50)[:, None]
y = x**3
net = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
opt = torch.optim.LBFGS(net.parameters(), max_iter=10, line_search_fn="strong_wolfe")


def closure():
    opt.zero_grad()
    loss = torch.nn.functional.mse_loss(net(x), y)
    loss.backward()
    return loss


for i in range(10):
    opt.step(closure)
