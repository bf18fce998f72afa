import torch
import torch.nn as nn

torch.manual_seed(139)


class TwoBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.img1, self.img2 = nn.Linear(16, 24), nn.Linear(24, 24)
        self.tab1, self.tab2 = nn.Linear(6, 24), nn.Linear(24, 24)
        self.out = nn.Linear(48, 1)

    def forward(self, img, tab):
        a = torch.relu(self.img2(torch.relu(self.img1(img))))
        b = torch.relu(self.tab2(torch.relu(self.tab1(tab))))
        return self.out(torch.cat([a, b], dim=1))


model = TwoBranch()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1, 201):
    img, tab = torch.randn(32, 16), torch.randn(32, 6)
    target = img.mean(1, keepdim=True) * 2 + tab[:, :1] * tab[:, 1:2]
    loss = nn.functional.mse_loss(model(img, tab), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 4))
