# expect: nothing

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopwright as lw

lw.seed(0)
x = torch.randn(640, 8)
y = (x[:, 0] > 0).long()
data = TensorDataset(x, y)
criterion = nn.CrossEntropyLoss()


def build():
    layers = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2)
    return nn.Sequential(*layers)


model = build()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
with lw.Run(model=model, optimizer=optimizer, accumulate=4, clip=1.0, ema=0.99, progress=False) as run:
    for step in run.loop(DataLoader(data, batch_size=32, shuffle=True), epochs=4):
        inputs, target = step.batch
        step.backward(criterion(run.model(inputs), target))
        step.update()
        if step.ends_epoch:
            for inputs, target in run.evaluate(DataLoader(data, batch_size=64)):
                step.log(valid_loss=criterion(run.model(inputs), target))

model = build()
lw.fit(
    model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), criterion,
    DataLoader(data, batch_size=32, shuffle=True), DataLoader(data, batch_size=64),
    epochs=4, capture="exact", metrics=["accuracy"], progress=False,
)  # fmt: skip
