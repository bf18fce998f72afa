"""Multi-task network: age-like regression target and a class, shared trunk."""
import torch
from torch import nn, Tensor
from torch.utils.data import DataLoader, Dataset


class SyntheticPeople(Dataset):
    def __init__(self, n: int, seed: int):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 12, generator=g)
        w = torch.randn(12, generator=torch.Generator().manual_seed(0))
        score = self.x @ w / 12 ** 0.5
        self.age = torch.sin(score) + 0.05 * torch.randn(n, generator=g)
        self.group = (score > 0.5).long() + (score > -0.5).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.age[i], self.group[i]


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU())
        self.age_head = nn.Linear(48, 1)
        self.group_head = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.trunk(x)
        return self.age_head(h).squeeze(-1), self.group_head(h)


def main() -> None:
    torch.manual_seed(8)
    loader = DataLoader(SyntheticPeople(1024, 1), batch_size=64, shuffle=True)
    holdout = SyntheticPeople(512, 2)
    net = TwoHeads()
    opt = torch.optim.Adam(net.parameters(), lr=2e-3)
    huber, ce = nn.SmoothL1Loss(), nn.CrossEntropyLoss()

    for epoch in range(8):
        net.train()
        for x, age, group in loader:
            opt.zero_grad()
            age_hat, group_hat = net(x)
            loss_age = huber(age_hat, age)
            loss_age.backward(retain_graph=True)
            loss_group = ce(group_hat, group)
            loss_group.backward()
            opt.step()

        net.eval()
        with torch.no_grad():
            age_hat, group_hat = net(holdout.x)
            mae = (age_hat - holdout.age).abs().mean().item()
            acc = (group_hat.argmax(1) == holdout.group).float().mean().item()
        print(f"epoch {epoch}  mae {mae:.3f}  acc {acc:.3f}")


if __name__ == "__main__":
    main()
