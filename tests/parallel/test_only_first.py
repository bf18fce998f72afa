"""The first rank writes and shows; the others are silent and touch nothing."""

from __future__ import annotations

PROGRAM = """
import builtins, pathlib
opened, own = [], builtins.open
def watched(file, mode="r", *args, **rest):
    if set(mode) & set("wax+") and "told-" not in str(file):
        opened.append(str(file))
    return own(file, mode, *args, **rest)
builtins.open = watched
model = nn.Linear(4, 2)
heard = []
run = lw.Run("run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
run.on("epoch_end", lambda event: heard.append(event.values["accuracy"]))
x, y = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 2
with run:
    for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=3), epochs=2):
        a, b = step.batch
        step.backward(nn.functional.cross_entropy(run.model(a), b))
        step.update()
        step.log(rank=RANK)
        if step.ends_epoch:
            accuracy = lw.Accuracy()
            for a, b in run.evaluate(DataLoader(TensorDataset(x, y), batch_size=3)):
                accuracy.update(run.model(a), b)
            step.log(accuracy=accuracy)
            run.keep_best("accuracy", mode="max")
builtins.open = own
tell(opened=opened, heard=heard, mean=run.history.epochs[-1].values["rank"])
"""


def test_only_the_first_rank_writes_and_shows(ranks):
    """Lines and files are the first rank's; what is logged is the mean of all, and all hear of it."""
    ended = [one.wait(60) for one in ranks.start(PROGRAM, 2)]
    assert [end.rc for end in ended] == [0, 0], ended[1].err
    first, second = (ranks.told(2, rank)[0] for rank in range(2))
    assert "epoch 2/2" in ended[0].err
    assert ended[1].err == ended[1].out == ""
    assert any("metrics.jsonl" in name for name in first["opened"])
    assert second["opened"] == []
    assert first["heard"] == second["heard"]
    assert first["mean"] == second["mean"] == 0.5
