import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 12), nn.Tanh())
        self.out = nn.Linear(12, 1)

    def forward(self, x):
        h = self.trunk(x)
        return h, self.out(h)


def physics(x):
    return (torch.sin(2 * x[:, :1]) * x[:, 1:2] + 0.5 * x[:, 2:] ** 2)


class Distiller:
    def __init__(self, teacher, student, lr=5e-3):
        self.teacher = teacher.eval()
        self.student = student
        self.opt = torch.optim.Adam(student.parameters(), lr=lr)
        self.mse = nn.MSELoss()

    def step(self, x, y):
        with torch.no_grad():
            t_hid, t_out = self.teacher(x)
        s_hid, s_out = self.student(x)
        loss = self.mse(s_out, y) + 0.5 * self.mse(s_out, t_out) + 0.1 * self.mse(s_hid, t_hid)
        self.opt.zero_grad()
        loss.backward()
        self.opt.step()
        return loss.item()


def main():
    torch.manual_seed(14)
    teacher = Net(64)
    opt = torch.optim.Adam(teacher.parameters(), lr=5e-3)
    for _ in range(150):
        x = torch.rand(64, 3) * 2 - 1
        loss = nn.functional.mse_loss(teacher(x)[1], physics(x))
        opt.zero_grad()
        loss.backward()
        opt.step()
    opt.zero_grad()
    print(f"teacher loss {loss.item():.4f}")
    dist = Distiller(teacher, Net(12))
    for it in range(200):
        x = torch.rand(64, 3) * 2 - 1
        l = dist.step(x, physics(x))
        if it % 50 == 49:
            print(f"it {it + 1} loss {l:.4f}")


if __name__ == "__main__":
    main()
