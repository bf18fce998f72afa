"""``torchrun --nnodes 1:2``: a machine is lost and the rest goes on; another comes, and both train."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from loopwright.parallel import group
from loopwright.parallel.torchrun import Place

PROGRAM = """
import time
torch.manual_seed(3)
data = TensorDataset(torch.arange(48.0).reshape(48, 1))
model = nn.Linear(1, 1)
run = lw.Run("run", model=model, optimizer=torch.optim.SGD(model.parameters(), lr=1e-6), progress=False,
             checkpoint=lw.Checkpoint(every_steps=2))
with run:
    for step in run.loop(DataLoader(data, batch_size=2, shuffle=True), epochs=10**6):
        (x,) = step.batch
        time.sleep(0.02)
        step.backward(run.model(x).mean())
        step.update()
        padding = getattr(run.active.source, "padding", False)
        tell(epoch=step.epoch, turn=step.index, pid=os.getpid(), agent=os.getppid(),
             x=[] if padding else x.int().flatten().tolist())
        if os.path.exists("enough") and step.ends_epoch:
            run.stop("enough")
"""


class Machines:
    """torchrun's agents, each in the place of a machine, and the store where they meet."""

    def __init__(self, ranks):
        self.ranks = ranks
        ranks.write(PROGRAM)
        self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._agents: list[subprocess.Popen] = []

    def start(self, address: str) -> subprocess.Popen:
        """Start an agent; the one with the lowest address gets rank 0."""
        path = os.pathsep.join(sys.path)
        with (self.ranks.folder / f"said-{len(self._agents)}").open("w") as said:
            agent = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2",
                 "--nproc-per-node", "1", "--max-restarts", "3", "--rdzv-backend", "c10d",
                 "--rdzv-id", "job", "--rdzv-endpoint", f"127.0.0.1:{self._store.port}", "--rdzv-conf",
                 "is_host=0,keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=2",
                 "--local-addr", address, "program.py"],
                cwd=self.ranks.folder, stdout=said, stderr=said,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1",
                     "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            )  # fmt: skip
        self._agents.append(agent)
        return agent

    def wait_for(self, size: int, *agents: subprocess.Popen) -> None:
        """Wait until these train together."""
        pids, end = {one.pid for one in agents}, time.monotonic() + 90
        seen = [len(self.ranks.told(size, rank)) for rank in range(size)]
        while time.monotonic() < end:
            fresh = [self.ranks.told(size, rank)[seen[rank] :] for rank in range(size)]
            if all(fresh) and {turns[-1]["agent"] for turns in fresh} == pids:
                return
            time.sleep(0.2)
        raise TimeoutError(self.said())

    def lose(self, agent: subprocess.Popen) -> None:
        """Kill an agent and its rank, as when a machine has gone."""
        (rank,) = {turns[-1]["pid"] for turns in self._told() if turns[-1]["agent"] == agent.pid}
        for pid in (agent.pid, rank):
            os.kill(pid, signal.SIGKILL)
        agent.wait(10)

    def _told(self):
        return [
            turns
            for size, rank in ((1, 0), (2, 0), (2, 1))
            if (turns := self.ranks.told(size, rank))
        ]

    def said(self) -> str:
        """What all have said."""
        return "\n".join(path.read_text() for path in sorted(self.ranks.folder.glob("said-*")))

    def end(self) -> None:
        """Leave nobody behind."""
        for agent in self._agents:
            if agent.poll() is None:
                agent.kill()
        for pid in {turn["pid"] for turns in self._told() for turn in turns}:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("addresses", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1")])
def test_a_machine_goes_and_another_one_comes(ranks, addresses):
    """Two, one, two again, whichever has rank 0: each goes on from a checkpoint, and all end with 0."""
    machines = Machines(ranks)
    try:
        stays = machines.start(addresses[0])
        lost = machines.start(addresses[1])
        machines.wait_for(2, stays, lost)
        while ranks.told(2, 0)[-1]["turn"] < 6:  # until something beyond the beginning is saved
            time.sleep(0.05)
        before = ranks.told(2, 0)[-1]["turn"]
        machines.lose(lost)
        machines.wait_for(1, stays)
        alone = ranks.told(1, 0)
        assert 0 < alone[0]["turn"] <= before + 1
        comes = machines.start(addresses[1])
        machines.wait_for(2, stays, comes)
        again = [one for one in ranks.told(2, 0) if one["agent"] in (stays.pid, comes.pid)]
        assert again[-1]["turn"] > alone[-1]["turn"]
        (ranks.folder / "enough").touch()
        assert (stays.wait(60), comes.wait(60)) == (0, 0), machines.said()
    finally:
        machines.end()


def test_a_store_of_an_earlier_round():
    """Ranks that find the agent's store with what ended processes wrote into it meet in a fresh one."""
    agents = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    another = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    another.set("word", "another")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        closed = one.getsockname()[1]

    def store(rank):
        here = Place(rank, 2, rank, "127.0.0.1", agents.port, agent_has_store=True)
        return group._store(here, 20)

    with ThreadPoolExecutor(2) as threads:
        for stale in (f"{closed} old", f"{another.port} old"):
            agents.set("loopwright/at", stale)
            second = threads.submit(store, 1)
            time.sleep(0.3)
            assert not second.done()
            first = store(0)
            first.set("here/0", "x")
            assert second.result(20).get("here/0") == b"x"
            assert first.port not in (agents.port, another.port)
            assert not agents.check(["here/0"])
