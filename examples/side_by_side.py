"""The tutorial loop and the same loop with Run: equal losses, equal weights, to the last bit.

    python examples/side_by_side.py

Both train the same small network on handwritten digits that come with Loopwright, with
dropout and shuffling. The program ends with an error if anything differs.
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
    # 56 full batches: run.loop averages over samples, the tutorial's loop over batches, and with a
    # short last batch these two means differ.
    digits = [tensor[:1792] for tensor in load_digits()]
    trainloader = DataLoader(TensorDataset(*digits), batch_size=32, shuffle=True)
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
    """The same loop; the mean loss of each epoch is in the run's history."""
    model, optimizer, criterion, trainloader = parts()
    run = lw.Run(model=model, optimizer=optimizer)
    for step in run.loop(trainloader, epochs=EPOCHS):
        data, labels = step.batch
        target = run.model(data)
        loss = criterion(target, labels)
        step.backward(loss)
        step.update()
    run.close()
    return [row.values["train_loss"] for row in run.history.epochs], model


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
