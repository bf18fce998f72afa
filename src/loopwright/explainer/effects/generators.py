"""What a call that seeds or sets a generator did: what came of it is no draw."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from loopwright.events.explained import Effects

if TYPE_CHECKING:
    from loopwright.events import Event
    from loopwright.explainer.record import Recording


def told(recording: Recording, event: Event) -> dict[str, Any]:
    """Take note of a call of ``torch.manual_seed`` or its like that has ended; its facts."""
    name = event.subject if event.kind == "generator" else "torch"
    facts: dict[str, Any] = {"generator": name}
    if event.name == "put back":
        recording.state.put_back.add(name)
        return {**facts, "by_torch": True}
    given = event.args[0] if event.args else next(iter(event.kwargs.values()), None)
    if event.name == "state":
        facts["state"] = True
    elif isinstance(given, int):
        facts["seed"] = given
    else:
        facts["entropy"] = given is None
    visit = recording.visit()
    seen = visit is not None and visit.deep and not recording.skips()
    effects = visit.effects if visit is not None and seen else Effects()
    recording.state.set_by_call(effects, name, seeded=event.name != "state")
    return facts


WORDS = 624
"""Of the Mersenne Twister that numpy's generator is."""


def numpy_seed(state: tuple[Any, ...]) -> int | None:
    """The number that has just made this state, which follows from its first word; None where none has.

    ``from numpy.random import seed`` before anything is observed leaves no call that could be hooked.
    """
    words, position, *_ = state
    if position != WORDS:
        return None
    key = struct.unpack(f"{WORDS}I", words)
    made = first = key[0]
    for index in range(1, WORDS):
        made = (1812433253 * (made ^ (made >> 30)) + index) & 0xFFFFFFFF
        if made != key[index]:
            return None
    return int(first)
