"""Model-agnostic meta-learning of sinusoids with functional_call and a meta-batch of tasks."""
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call


class Sinusoids:
    def task(self):
        amplitude, phase = 0.5 + 4 * torch.rand(1), math.pi * torch.rand(1)

        def draw(count=10):
            x = 10 * torch.rand(count, 1) - 5
            return x, amplitude * torch.sin(x + phase)

        return draw


class MetaLearner:
    def __init__(self, model, inner_lr=0.02, inner_steps=2, tasks=4):
        self.model, self.inner_lr, self.inner_steps, self.tasks = model, inner_lr, inner_steps, tasks
        self.optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def predict(self, fast, x):
        return functional_call(self.model, fast, (x,))

    def adapt(self, x, y):
        """The weights after some steps of gradient descent on one task."""
        fast = dict(self.model.named_parameters())
        for _ in range(self.inner_steps):
            loss = F.mse_loss(self.predict(fast, x), y)
            slopes = torch.autograd.grad(loss, list(fast.values()), create_graph=True)
            fast = {name: p - self.inner_lr * g for (name, p), g in zip(fast.items(), slopes)}
        return fast

    def outer_step(self, source):
        self.optimizer.zero_grad()
        total = 0.0
        for _ in range(self.tasks):
            draw = source.task()
            fast = self.adapt(*draw())
            x, y = draw()
            loss = F.mse_loss(self.predict(fast, x), y) / self.tasks
            loss.backward()
            total += loss.item()
        self.optimizer.step()
        return total


def main():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    learner, source = MetaLearner(model), Sinusoids()
    for step in range(60):
        loss = learner.outer_step(source)
        if step % 20 == 19:
            print(step + 1, loss)


if __name__ == "__main__":
    main()
