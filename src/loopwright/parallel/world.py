"""What one rank may ask of all: everything that is said here is JSON or plain tensors, never a pickle."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from loopwright.errors import LoopwrightError
from loopwright.parallel.standing import Standing

_SIZE = struct.Struct("=q")
PACKET = 4088
"""Bytes that are told together with how many there are: nearly all of what is said fits into one message."""


_LATEST: deque[tuple[Tensor, ...]] = deque(maxlen=8)
"""What the latest collectives were about, until gloo has let go of it; see ``settle``."""
SMALL = 65536
"""Bytes: larger tensors are not kept, and none of a run's last collectives is about any."""


class EndedElsewhere(SystemExit):
    """The first rank has failed and says why; this one ends with the same exit code, silently."""


class World:
    """All ranks, seen from one of them. Each method but ``rank`` and the like is a collective call.

    Attributes:
        rank: this process, from 0.
        size: how many there are; 1 only where the program has sharded over a mesh of one.
        local_rank: this process among those of its machine.
        of: PyTorch's group that this is the face of.
        limit_s: seconds that a collective may take.
        ending: this rank has failed, and waits for nobody any more.
        store: what the ranks share by key, from any thread.
        standing: what writes down where this rank is; None in a group that the program has made.
    """

    limit_s = 600.0
    store: Any = None
    standing: Standing | None = None

    def __init__(self, rank: int, size: int, local_rank: int, group: Any = None):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.of = dist.group.WORLD
        self.ending = threading.Event()
        self._group = group

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and shows."""
        return self.rank == 0

    def where_all_stand(self) -> list[str]:
        """Return a line for each rank (not a collective call)."""
        return [] if self.standing is None else self.standing.others(self.size)

    # -- plain values --------------------------------------------------------------------------

    def exchange(self, value: Any) -> list[Any]:
        """Return every rank's value, in the order of the ranks."""
        return self.exchange_with(value, ())[0]

    def exchange_with(
        self, value: Any, numbers: Sequence[float]
    ) -> tuple[list[Any], list[Sequence[float]]]:
        """Return every rank's value, and its numbers, in one message as a rule.

        Args:
            value: JSON.
            numbers: as many on every rank; as text, 300 of them would take 140 µs instead of 10.
        """
        mine = _bytes_of(value)
        told = [bytes(one.numpy()) for one in self._gather(_packet(mine, numbers))]
        sizes = [_SIZE.unpack_from(packet)[0] for packet in told]
        found = [packet[8 : 8 + size] for packet, size in zip(told, sizes, strict=True)]
        if max(sizes) > PACKET:
            whole = _tensor_of(mine.ljust(max(sizes), b"\0"))
            several = zip(self._gather(whole), sizes, strict=True)
            found = [bytes(one.numpy()[:size]) for one, size in several]
        return [json.loads(one) for one in found], [array("d", one[8 + PACKET :]) for one in told]

    def _gather(self, mine: Tensor) -> list[Tensor]:
        found = [torch.empty_like(mine) for _ in range(self.size)]
        _keep(mine, *found)
        dist.all_gather(found, mine, group=self._group)
        return found

    def first(self, value: Any = None, *, of: int = 0) -> Any:
        """Return the first rank's value, or that of the rank ``of``."""
        theirs = self.rank != of
        mine = torch.empty(0, dtype=torch.uint8) if theirs else _tensor_of(_bytes_of(value))
        size = torch.tensor([mine.numel()])
        dist.broadcast(size, of, group=self._group)
        if theirs:
            mine = torch.empty(int(size), dtype=torch.uint8)
        _keep(size, mine)
        dist.broadcast(mine, of, group=self._group)
        return _value_of(mine)

    def first_does(self, do: Callable[[], Any]) -> Any:
        """Let the first rank do something; returns what it returned there.

        Raises:
            EndedElsewhere: it has failed; the first rank raises the failure itself.
        """
        if not self.is_first:
            told = self.first()
            if "code" in told:
                raise EndedElsewhere(told["code"])
            return told["value"]
        try:
            value = do()
        except Exception as error:
            self.first({"code": error.exit_code if isinstance(error, LoopwrightError) else 1})
            raise
        self.first({"value": value})
        return value

    # -- numbers -------------------------------------------------------------------------------

    def total(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in float64."""
        return self.begin_total(numbers).wait()

    def begin_total(self, numbers: Sequence[float]) -> Totals:
        """Start adding up over all ranks, in the background."""
        return Totals(numbers, self.size, self._group)

    def total_tensor(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks, on its device."""
        total = tensor.detach().clone()
        _keep(total)
        dist.all_reduce(total, group=self._group if total.device.type == "cpu" else None)
        return total

    # -- tensors -------------------------------------------------------------------------------

    def take_firsts(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors with the first rank's, in place."""
        for tensor in tensors:
            plain = tensor.detach()
            whole = plain if plain.is_contiguous() else plain.contiguous()
            _keep(whole)
            dist.broadcast(whole, 0, group=self._group if whole.device.type == "cpu" else None)
            if whole is not plain:
                plain.copy_(whole)

    def firsts(self, tensors: Mapping[str, Tensor] | None, *, of: int = 0) -> dict[str, Tensor]:
        """Return the first rank's tensors by name, or those of the rank ``of``, on the CPU."""
        kinds = {}
        if tensors is not None:
            kinds = {n: [str(t.dtype).partition(".")[2], list(t.shape)] for n, t in tensors.items()}
        found = {}
        for name, (dtype, shape) in self.first(kinds, of=of).items():
            if self.rank == of:
                assert tensors is not None
                tensor = tensors[name].detach().cpu().contiguous()
            else:
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
            if tensor.numel():
                flat = tensor.reshape(-1).view(torch.uint8)
                _keep(flat)
                dist.broadcast(flat, of, group=self._group)
            found[name] = tensor
        return found

    def to_first(self, value: Any, tensors: Mapping[str, Tensor]) -> list[tuple[Any, Any]]:
        """Send a value and CPU tensors to the first rank; returns all of them there, [] elsewhere."""
        kinds = {n: [str(t.dtype).partition(".")[2], list(t.shape)] for n, t in tensors.items()}
        told = self.exchange([value if not self.is_first else None, kinds])
        if not self.is_first:
            for tensor in tensors.values():
                if tensor.numel():
                    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                    dist.send(plain, 0, group=self._group)
            return []
        found: list[tuple[Any, Any]] = [(value, dict(tensors))]
        for rank, (theirs, kinds_there) in enumerate(told):
            if rank == 0:
                continue
            received = {}
            for name, (dtype, shape) in kinds_there.items():
                tensor = torch.empty(shape, dtype=getattr(torch, dtype))
                if tensor.numel():
                    dist.recv(tensor.reshape(-1).view(torch.uint8), rank, group=self._group)
                received[name] = tensor
            found.append((theirs, received))
        return found


class Totals:
    """A sum over all ranks that is under way."""

    def __init__(self, numbers: Sequence[float], size: int, group: Any):
        self._sums: list[float] = []
        # Each adds up for itself: gloo's all_reduce sends twice as often (800 µs against 430 for two ranks).
        self._told = torch.empty(size, len(numbers), dtype=torch.float64)
        mine = torch.tensor(numbers, dtype=torch.float64)
        theirs = list(self._told)
        _keep(mine, *theirs)
        self._work = dist.all_gather(theirs, mine, group=group, async_op=True)

    def wait(self) -> list[float]:
        """Return the sums."""
        if self._work is not None:
            self._work.wait()
            self._work = None  # kept, it would keep the group beyond its end
            self._sums = self._told.sum(0).tolist()
        return self._sums


def settle(limit_s: float = 1.0) -> None:
    """Wait until gloo's threads have let go of the latest collectives, before the process may end.

    They do so a moment after all ranks have gone on, and need Python's lock for the tensors' objects. A
    thread that asks for it while Python is ending is ended by force, and with it the process: four of twenty
    runs on two ranks ended with SIGABRT, after all had been done and saved (one of fourteen by hand too).
    """
    until = time.monotonic() + limit_s
    (free,) = _holders((torch.empty(0),))
    while _LATEST and time.monotonic() < until:
        if all(one == free for one in _holders(_LATEST[0])):
            _LATEST.popleft()
        else:
            time.sleep(0.0005)


def _holders(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """How many hold each in Python, and in C++."""
    return [(sys.getrefcount(one), one._use_count()) for one in tensors]  # pyrefly: ignore[missing-attribute]


def _keep(*tensors: Tensor) -> None:
    if sum(one.nbytes for one in tensors) <= SMALL * len(tensors):
        _LATEST.append(tensors)


def _packet(value: bytes, numbers: Sequence[float]) -> Tensor:
    """Return a message as one piece of memory: put together by torch, it took four times as long."""
    begins = value[:PACKET].ljust(PACKET, b"\0")
    return _tensor_of(_SIZE.pack(len(value)) + begins + array("d", numbers).tobytes())


def _bytes_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def _tensor_of(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _value_of(content: Tensor) -> Any:
    return json.loads(bytes(content.numpy()))
