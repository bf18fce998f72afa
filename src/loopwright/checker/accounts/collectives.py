"""The account of collectives: what this rank calls in each group, in order, kept in its journal.

Ranks are paired by the order of their calls, so order is what is kept, with what must be equal on all of
them: the operation, its root, and for those that need it the type and number of values. PyTorch's own count
of a group's collectives, where it has one, also covers those that it makes itself (a reducer's).
"""

from __future__ import annotations

import dataclasses
import linecache
import os
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import torch

from loopwright.checker.accounts.sent import Sent
from loopwright.checker.ranks.journal import SOMETHING, ZERO, Journal
from loopwright.events import Event
from loopwright.observe.sites import Site, resolve, stack

KINDS = 2000
"""Kinds of calls that are told apart by their sizes; further ones are noted without."""
ALIKE = ("all_reduce", "broadcast", "reduce", "all_gather_into_tensor", "reduce_scatter_tensor")
"""Whose first tensor is as large on every rank."""
MIXED = (
    "all_reduce",
    "reduce",
    "all_gather",
    "all_gather_into_tensor",
    "reduce_scatter",
    "reduce_scatter_tensor",
)
"""In which something of each rank goes to others."""
FRAMES = 4
"""Calls by which two are told apart: the collective, and those of the functions around it."""
LOOKED_AT, WAITED_FOR = 65536, 64
"""Values of a tensor that are looked at; collectives in which a device is waited for."""
ENVIRONMENT = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")
"""What the ranks of one training have in common."""
BYTES = (torch.uint8, torch.int8, torch.bool)


class Group:
    """One process group, as this rank knows it."""

    def __init__(self, group: Any, line: int, *, counted: bool):
        self.ref = weakref.ref(group)
        self.line = line
        self.index = self.before = 0
        self.counted = counted
        """PyTorch's number is that of its next collective."""
        self.thread = threading.get_ident()
        self.marks: set[str] = set()


class Collectives:
    """The account; see the module. Without a folder for the journal nothing is kept."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.began = time.time()
        self.journal: Journal | None = None
        self._groups: dict[tuple[int, str], Group] = {}
        self._calls: dict[tuple[Any, ...], int] = {}
        self._worlds = 0
        self._sent = Sent()
        self._open: dict[int, tuple[int, Group]] = {}
        """Thread -> the slot of the collective that it is in, and its group."""

    def after_group(self, event: Event) -> None:
        """This process has become a rank, or is one no more."""
        if event.failed or self.folder is None:
            return
        if event.subject == "destroy_process_group":
            gone = event.kwargs.get("group")
            for group in self._groups.values() if gone is None and not _unwinding() else ():
                self._mark(group, "destroyed")
            return
        size = torch.distributed.get_world_size()
        if size < 2:
            return
        if self.journal is None:
            self.journal = Journal(self.folder, {"met": meeting(), "began": self.began})
        self._worlds += 1
        self._groups.clear()
        rank = torch.distributed.get_rank()
        self.journal.line({"world": self._worlds, "rank": rank, "size": size})

    def before_collective(self, event: Event) -> None:
        """One more call in the order of its group."""
        group = self._group_of(event)
        if group is None or self.journal is None:
            return
        if group.thread != threading.get_ident():
            self._mark(group, "threads")
        if _unwinding():
            self._mark(group, "after an exception")
        if "after an exception" in group.marks:
            return  # the order from there on is no longer that of a program that goes its way
        call, looks = self._call(event)
        number = self._number(group)
        brings = self._brings(event) if event.subject in MIXED else 0
        place = self.journal.begin(group.line, group.index, number, call, brings, looks)
        self._open[threading.get_ident()] = place, group
        group.index += 1
        group.before = number

    def after_collective(self, event: Event) -> None:
        """It came back."""
        opened = self._open.pop(threading.get_ident(), None)
        if opened is None or self.journal is None:
            return
        place, group = opened
        self.journal.end(place, raised=event.failed)
        if not event.failed and self._number(group) <= group.before:
            self._mark(group, "uncounted")

    def after_message(self, event: Event) -> None:
        """Messages from rank to rank are counted by PyTorch too, and are not the same on all."""
        group = self._group_of(event)
        if group is not None:
            self._mark(group, "messages")

    def before_forward(self, event: Event) -> None:
        """PyTorch makes collectives of its own in there."""
        if self.journal is not None:
            self.journal.doing(
                self._line(event.site, event.kind, [], f"the {event.kind} pass"), self._latest()
            )

    def after_forward(self, event: Event) -> None:
        """How many there were."""
        if self.journal is not None:
            self.journal.doing(0, self._latest())

    before_backward, after_backward = before_forward, after_forward

    def end(self, *, well: bool) -> None:
        """The process ends by itself."""
        if self.journal is not None:
            self.journal.doing(0, self._latest())
            self.journal.close(well=well)

    def _group_of(self, event: Event) -> Group | None:
        """The group that a call is for, noted when it is first seen."""
        if self.journal is None or not torch.distributed.is_initialized():
            return None
        group = event.kwargs.get("group")
        group = _world() if group is None else group
        if not isinstance(group, torch.distributed.ProcessGroup):
            return None  # this rank is not in it
        known = self._groups.get((id(group), ""))  # most have one backend: 4 µs less
        if known is not None and known.ref() is group:
            return known
        devices = self._devices(group)
        device = _device(event.kwargs) if len(devices) > 1 else ""
        known = self._groups.get((id(group), device))
        if known is not None and known.ref() is group:
            return known
        told = {
            "group": group.group_name,
            "device": device,
            "ranks": torch.distributed.get_process_group_ranks(group),
            "in": self._worlds,
        }
        made = Group(group, self.journal.line(told), counted=len(devices) == 1)
        if not made.counted:
            self._mark(made, "uncounted")
        self._groups[id(group), device] = made
        return made

    @staticmethod
    def _devices(group: Any) -> set[str]:
        """The backends of a group, each of which has an order of its own."""
        told = torch.distributed.get_backend_config(group)
        return {one.rpartition(":")[2] for one in told.split(",")}

    def _number(self, group: Group) -> int:
        held = group.ref()
        if not group.counted or held is None:
            return 0
        try:
            return int(held._get_sequence_number_for_group())
        except RuntimeError:  # a backend that does not count
            group.counted = False
            self._mark(group, "uncounted")
            return 0

    def _latest(self) -> int:
        """PyTorch's count of the group of all ranks."""
        if not torch.distributed.is_initialized():
            return self.journal.latest if self.journal is not None else 0
        try:
            return int(_world()._get_sequence_number_for_group())
        except RuntimeError:
            return 0

    def _mark(self, group: Group, mark: str) -> None:
        if self.journal is not None and mark not in group.marks:
            group.marks.add(mark)
            self.journal.line({"mark": mark, "of": group.line})

    def _brings(self, event: Event) -> int:
        """Whether this rank adds anything: who only takes brings zeros. On a device asked a few times."""
        tensor = _given(event)
        assert self.journal is not None
        if (
            tensor is None
            or tensor.layout != torch.strided
            or tensor.numel() > LOOKED_AT
            or (tensor.device.type != "cpu" and self.journal.calls > WAITED_FOR)
        ):
            return 0
        return SOMETHING if bool(tensor.detach().any()) else ZERO

    def _call(self, event: Event) -> tuple[int, int]:
        """Return the number of its line, and what the values of a named parameter look like."""
        key, says = _signature(event.subject, event.kwargs)
        way = tuple((code, instruction) for code, instruction, _ in stack(3)[-FRAMES:])
        named, looks = None, 0
        if not event.site.by_library:
            frame, size = sys._getframe(1), torch.distributed.get_world_size()
            named, looks = self._sent.named(frame, size)
        what = tuple(named.told()) if named is not None else None
        return self._line(event.site, event.subject, key, says, way, what), looks

    def _line(
        self, site: Site, name: str, key: list[Any], says: str,
        way: tuple[Any, ...] = (), what: tuple[Any, ...] | None = None,
    ) -> int:  # fmt: skip
        if len(self._calls) > KINDS:
            key, says, way, what = [None] * len(key), f"{name}()", (), None
        known = self._calls.get((site, name, way, what, *key))
        if known is None:
            assert self.journal is not None
            place = dataclasses.asdict(site.position())
            told = {
                "op": name,
                "key": key,
                "says": says,
                "place": place,
                "way": _words(way),
                "what": what,
            }
            known = self._calls[site, name, way, what, *key] = self.journal.line(told)
        return known


def _world() -> Any:
    """The group of all ranks."""
    return torch.distributed.group.WORLD


def _unwinding() -> bool:
    """Whether an exception is on its way, or being answered."""
    return sys.exc_info()[0] is not None


def meeting() -> dict[str, str | None]:
    """What the environment says about where the ranks of one training meet."""
    return {name: os.environ.get(name) for name in ENVIRONMENT}


def _words(way: tuple[Any, ...]) -> list[list[str]]:
    """File, function and text of each call that led to a collective, the innermost last."""
    found = []
    for code, instruction in way:
        at = resolve(code, instruction)
        lines = linecache.getlines(code.co_filename)[at.line - 1 : at.end_line]
        if not lines:
            return []
        lines[-1] = lines[-1][: at.end_column - 1]
        text = " ".join("".join([lines[0][at.column - 1 :], *lines[1:]]).split())
        found.append([code.co_filename, code.co_qualname, text])
    return found


def _first_tensor(named: dict[str, Any]) -> torch.Tensor | None:
    return next((one for one in named.values() if isinstance(one, torch.Tensor)), None)


def _given(event: Event) -> torch.Tensor | None:
    """What this rank sends: of what it was given in a list or as its last tensor, where others receive."""
    tensors = [one for one in event.kwargs.values() if isinstance(one, torch.Tensor)]
    if event.subject == "reduce_scatter":
        return None  # a list of them
    return tensors[-1] if tensors else None


def _device(named: dict[str, Any]) -> str:
    first = _first_tensor(named)
    return first.device.type if first is not None else "any"


def _signature(name: str, named: dict[str, Any]) -> tuple[list[Any], str]:
    """What must be equal on all ranks, and in words: root, operation, type, number of values."""
    root = named.get("src", named.get("dst"))
    if root is None and ("src" in named or "dst" in named):
        inside = named.get("group_src", named.get("group_dst"))
        held = named.get("group") or _world()
        root = torch.distributed.get_global_rank(held, inside or 0)
    op = named.get("op")
    op = str(getattr(op, "op", op)).rpartition(".")[2] if op is not None else None
    tensor = _first_tensor(named)
    kind = values = None
    if name in ALIKE and tensor is not None:
        kind = "byte" if tensor.dtype in BYTES else str(tensor.dtype).removeprefix("torch.")
        values = tensor.numel()
    words = [f"of {values:,} {kind} value{'s'[: values != 1]}" if values is not None else ""]
    words.append(f"({op})" if op is not None else "")
    if root is not None:
        words.append(f"from rank {root}" if "src" in named else f"to rank {root}")
    return [root, op, kind, values], " ".join([f"{name}()", *filter(None, words)])
