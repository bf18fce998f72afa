"""What a call that seeds or sets a generator did: what came of it is no draw."""

from __future__ import annotations

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
