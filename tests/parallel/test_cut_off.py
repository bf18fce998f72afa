"""A machine that is cut off: two network namespaces, and the cable between them pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

NETWORK = """
set -e
ip link set lo up
unshare -n sleep 600 & other=$!
trap 'kill $other' EXIT
until [ "$(readlink /proc/$other/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add cable0 type veth peer name cable1
ip link set cable1 netns $other
ip addr add 10.9.0.1/24 dev cable0; ip link set cable0 up
there="nsenter -n -t $other"
$there ip link set lo up
$there ip addr add 10.9.0.2/24 dev cable1; $there ip link set cable1 up
set +e
RANK=0 GLOO_SOCKET_IFNAME=cable0 "$PYTHON" program.py 2> err-0 & first=$!
RANK=1 GLOO_SOCKET_IFNAME=cable1 $there "$PYTHON" program.py 2> err-1 & second=$!
while kill -0 $first $second 2> /dev/null; do
    [ -e pull ] && rm pull && ip link set cable0 down
    sleep 0.1
done
wait $first; echo $? > code-0
wait $second; echo $? > code-1
"""

PROGRAM = """
import time
torch.manual_seed(3)
x, y = torch.randn(24, 4), torch.randint(0, 2, (24,))
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
run = lw.Run("run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), progress=False,
             parallel={"strategy": "ddp", "timeout_s": 8}, checkpoint=lw.Checkpoint(every_steps=1))
with run:
    for step in run.loop(DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True), epochs=3):
        if step.index == 5 and RANK == 1 and "PULL" in os.environ:
            open("pull", "w").close()
            while os.path.exists("pull"):
                time.sleep(0.05)
            time.sleep(0.5)
        a, b = step.batch
        step.backward(nn.functional.cross_entropy(run.model(a), b))
        step.update()
tell(weights=[p.flatten().tolist() for p in model.parameters()])
"""


def train(ranks, **env):
    """Train on two machines; returns each one's exit code and what it said."""
    ranks.write(PROGRAM)
    around = {
        "PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "10.9.0.1", "MASTER_PORT": "29500",
    }  # fmt: skip
    subprocess.run(
        ["unshare", "-Urn", "bash", "-c", NETWORK], check=False, cwd=ranks.folder, timeout=120,
        env={**os.environ, **around, **env},
    )  # fmt: skip
    read = [
        (ranks.folder / f"{name}-{rank}").read_text() for rank in (0, 1) for name in ("code", "err")
    ]
    return (int(read[0]), read[1]), (int(read[2]), read[3])


def test_a_machine_is_cut_off(ranks):
    """Both sides end within the limit and say so; the same command then gives the same bits."""
    allowed = ["unshare", "-Urn", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"]
    try:
        subprocess.run(allowed, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces are not allowed here")
    ends = train(ranks)
    assert [code for code, _ in ends] == [0, 0], ends
    whole = [ranks.told(2, rank) for rank in range(2)]
    shutil.rmtree(ranks.folder / "run")
    for rank in range(2):
        (ranks.folder / f"told-2-{rank}.jsonl").unlink()
    for code, said in train(ranks, PULL="1"):
        assert code != 0
        assert "rank-silent" in said or "another rank has ended" in said, said
    assert not (ranks.folder / "told-2-0.jsonl").exists()
    ends = train(ranks)
    assert [code for code, _ in ends] == [0, 0], ends
    assert [ranks.told(2, rank) for rank in range(2)] == whole
