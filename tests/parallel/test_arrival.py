"""Three ranks that go on from a checkpoint put gradients together as those did that never ended."""

from __future__ import annotations

import pytest

PROGRAM = """
import hashlib, shutil, time
from loopwright.parallel import arrival
draw = torch.Generator().manual_seed(3)
data = TensorDataset(torch.randn(72, 5, generator=draw), torch.randint(0, 3, (72,), generator=draw))
def train(folder, *copies):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 3)).double()
    gradients = []
    if folder == "hooked":
        model[0].weight.register_hook(gradients.append)
    run = lw.Run(folder, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.3), progress=False,
                 device="cpu", checkpoint=lw.Checkpoint(every_steps=5))
    made = 0
    for step in run.loop(DataLoader(data, batch_size=4), epochs=2):
        inputs, target = step.batch
        step.backward(nn.functional.cross_entropy(run.model(inputs.double()), target))
        step.update()
        made += 1
        if made == 9 and RANK == 0:
            while not os.path.isdir(folder + "/checkpoints/loop-0-turn-00000005"):
                time.sleep(0.01)
            for copy in copies:
                shutil.copytree(folder, copy)
    assert len(gradients) in (0, made) and made < 12 or copies
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters())
    run.close()
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()
whole, parts, hooked = train("whole", "parts", "hooked", "control"), train("parts"), train("hooked")
arrival.MATTERS_FROM = 4
tell(whole=whole, parts=parts, control=train("control"))
"""


@pytest.mark.long
def test_the_same_bits_on_three_ranks(ranks):
    """The last bits are those of a run that never ended; without the order they are not (the control).

    Where a parameter has a hook of the program's, it runs for the program's own gradients alone.
    """
    told = [mine[-1] for mine in ranks.run(PROGRAM, 3)]
    assert len({(one["whole"], one["parts"]) for one in told}) == 1
    assert told[0]["parts"] == told[0]["whole"] != told[0]["control"]
