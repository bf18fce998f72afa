"""What a GPU does meanwhile: marks in its queue, and waiting for it told apart from copying.

A mark is an event that the device passes when it gets there (about 5 µs of the host). Times between marks
are read at the end, so nothing waits for the device that would not have waited anyway: only a call that waits
for it by itself, as ``.item()`` does, is split in two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from loopwright.events import Event
from loopwright.events.explained import SpanNote

MOST = 400
"""Spans that are kept of one turn."""


@dataclass(slots=True, eq=False)
class Span:
    """A call of a phase in a turn that is timed; nanoseconds of the program's own time."""

    phase: str
    site: Any
    began: int
    ended: int = 0
    waited: int = 0
    """Of it, for the device."""
    first: Any = None
    last: Any = None
    inner: list[Span] = field(default_factory=list)


def mark() -> Any:
    """A mark in the current stream's queue; None where there is no GPU in use."""
    if not torch.cuda.is_initialized() or torch.cuda.is_current_stream_capturing():
        return None
    made = torch.cuda.Event(enable_timing=True)
    made.record()
    return made


def waits_for(event: Event) -> torch.device | None:
    """The device whose current stream a call waits for before it can return; None where it waits for none.

    Reading a number does, and so does each copy between host and device that is not ``non_blocking``: torch
    puts it into the stream and waits until the stream is done, on the way to the device too.
    """
    tensor = event.subject
    if not isinstance(tensor, torch.Tensor) or not torch.cuda.is_initialized():
        return None
    other = torch.device("cpu") if event.kind in ("item", "format") else _target(event)
    if other is None or event.kind not in ("item", "format", "transfer"):
        return None
    found = [one for one in (tensor.device, other) if one.type == "cuda"]
    if len(found) != 1 or "cpu" not in (tensor.device.type, other.type):
        return None
    return None if torch.cuda.is_current_stream_capturing() else found[0]


def _target(event: Event) -> torch.device | None:
    """Where a tensor is to go and the host waits for it."""
    args, kwargs = event.args, event.kwargs
    flags = [one for one in args if isinstance(one, bool)]  # the first one of each signature
    if kwargs.get("non_blocking") or flags[:1] == [True]:
        return None
    place = kwargs.get("device", kwargs.get("other", args[0] if args else None))
    if isinstance(place, torch.Tensor):
        return place.device
    if isinstance(place, int) and not isinstance(place, bool):
        return torch.device("cuda", place)
    if isinstance(place, (str, torch.device)):
        return torch.device(place)
    return torch.device(event.name) if event.name in ("cpu", "cuda") else None


def wait(device: torch.device) -> None:
    """Wait for what the device's current stream has been given, as the call would."""
    torch.cuda.current_stream(device).synchronize()


def settle() -> bool:
    """Wait for everything once, at the end; False where the device can no longer be asked."""
    try:
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
    except RuntimeError:  # the program ended by an error of the device; every later call repeats it
        return False
    return True


def seconds_between(first: Any, last: Any) -> float:
    """From one mark to another, on the clock of the device that both are of."""
    if first.device != last.device:
        return 0.0  # another one was made current in between
    first.synchronize()  # ``settle`` waits for the current device alone
    last.synchronize()
    return max(0.0, first.elapsed_time(last)) / 1e3


def phases(turns: list[Any]) -> dict[str, float]:
    """Median device seconds a turn of each phase, what other phases took inside it left out."""
    found: dict[str, list[float]] = {}
    for turn in turns:
        own: dict[str, float] = {}
        for span in turn.spans:
            if span.first is not None and span.last is not None:
                took = seconds_between(span.first, span.last)
                took -= sum(
                    seconds_between(one.first, one.last)
                    for one in span.inner
                    if one.first is not None and one.last is not None
                )
                own[span.phase] = own.get(span.phase, 0.0) + max(0.0, took)
        for phase, took in own.items():
            found.setdefault(phase, []).append(took)
    return {phase: median(each) for phase, each in found.items()}


def waits(turns: list[Any], *, by_line: bool = False) -> dict[str, list[float]]:
    """Phase to median seconds a turn of waiting for the device, and of the copying after it.

    With ``by_line``, of each place: ``"file:line"`` with the file's path.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    for turn in turns:
        own: dict[str, list[int]] = {}
        for span in turn.spans:
            if span.waited:
                key = _at(span) if by_line else span.phase
                sums = own.setdefault(key, [0, 0])
                sums[0] += span.waited
                sums[1] += span.ended - span.began - span.waited
        for key, (waited, copied) in own.items():
            found.setdefault(key, []).append((waited, copied))
    return {
        key: [median(one[0] for one in each) / 1e9, median(one[1] for one in each) / 1e9]
        for key, each in found.items()
    }


def _at(span: Span) -> str:
    place = span.site.position()
    return f"{os.path.abspath(place.file)}:{place.line}"


def timeline(turn: Any) -> list[SpanNote]:
    """One turn, call by call: when each began and ended on the host, and on the device."""
    notes = []
    # A criterion's call and that of its function are one.
    inner = {id(one) for span in turn.spans for one in span.inner if one.phase == span.phase}
    for span in (one for one in turn.spans if id(one) not in inner):
        line = span.site.position().line if span.site is not None else 0
        began = (span.began - turn.origin) / 1e9
        took = (span.ended - span.began) / 1e9
        notes.append(SpanNote("host", span.phase, line, began, took, span.waited / 1e9))
        if turn.mark is not None and span.first is not None and span.last is not None:
            notes.append(
                SpanNote("device", span.phase, line, seconds_between(turn.mark, span.first),
                         seconds_between(span.first, span.last))
            )  # fmt: skip
    return notes
