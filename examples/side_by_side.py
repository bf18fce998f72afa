"""The tutorial loop and the same loop with Run: equal losses, equal weights, to the last bit.

    python examples/side_by_side.py

Both train the same small network on the 1,797 handwritten digits that come with Loopwright, with
dropout, shuffling and a short last batch. The program ends with an error if anything differs.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import loopwright as lw
from loopwright.recipes.digits import load_digits

EPOCHS = 3
device = "cuda" if torch.cuda.is_available() else "cpu"


def parts():
    """The same model, data, loss and optimizer every time: everything is drawn from one seed."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainloader = DataLoader(TensorDataset(*load_digits()), batch_size=32, shuffle=True)
    return model.to(device), optimizer, nn.CrossEntropyLoss(), trainloader


def by_hand():
    """The loop of every tutorial."""
    model, optimizer, criterion, trainloader = parts()
    losses = []
    for _ in range(EPOCHS):
        train_loss = 0.0
        for data, labels in tqdm(trainloader, leave=False):
            data, labels = data.to(device), labels.to(device)
            optimizer.zero_grad()
            target = model(data)
            loss = criterion(target, labels)
            loss.backward()
            optimizer.step()
            train_loss += loss.item()
        losses.append(train_loss / len(trainloader))
    return losses, model


def with_run():
    """The same loop, and its losses averaged in the same way: over batches."""
    model, optimizer, criterion, trainloader = parts()
    losses = []
    run = lw.Run(model=model, optimizer=optimizer, progress=False)
    for step in run.loop(trainloader, epochs=EPOCHS):
        if step.index % len(trainloader) == 0:
            train_loss = lw.Mean()
        data, labels = step.batch
        target = run.model(data)
        loss = criterion(target, labels)
        step.backward(loss)
        step.update()
        train_loss.update(loss.detach())
        if step.ends_epoch:
            losses.append(train_loss.compute())
    run.close()
    return losses, model


def main():
    hand_losses, hand_model = by_hand()
    run_losses, run_model = with_run()
    print("epoch   tutorial loop          lw.Run")
    for epoch, (hand, ours) in enumerate(zip(hand_losses, run_losses, strict=True)):
        print(f"{epoch}       {hand:.16f}     {ours:.16f}")
        assert hand == ours
    for ours, hand in zip(run_model.parameters(), hand_model.parameters(), strict=True):
        assert torch.equal(ours, hand)
    print("every weight is equal, bit for bit")


if __name__ == "__main__":
    main()
