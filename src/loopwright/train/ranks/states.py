"""Every rank's own state inside one checkpoint: generators, the position in the data, open windows.

What all ranks have alike (weights, optimizers, counts) is the first rank's. The others' parts travel to it
when a checkpoint is made, and back when it is read.
"""

from __future__ import annotations

from typing import Any

from loopwright.checkpoint.tree import decode, encode
from loopwright.parallel.world import World
from loopwright.train.state.saving import begin_the_rest

OWN = ("random", "own", "gradients", "windows", "buffers", "kept", "tracked", "holdings")


def gathered(state: dict[str, Any], buffers: dict[str, set[str]], world: World) -> dict[str, Any]:
    """Return the state with every rank's part in it on the first rank, and itself on the others.

    Args:
        state: what ``saving.collect`` returned here.
        buffers: names of each model's buffers, which ranks may have unlike.
        world: the ranks.
    """
    part = {name: state[name] for name in OWN}
    part["source"] = state["loop"]["source"]
    part["moving"] = {
        key: {name: value for name, value in state["models"][key].items() if name in names}
        for key, names in buffers.items()
    }
    tree, tensors = encode(part)
    told = world.to_first(tree, tensors)
    others = [decode(tree, tensors) for tree, tensors in told[1:]]
    return {**state, "ranks": {"size": world.size, "others": others}}


def scattered(state: dict[str, Any] | None, world: World) -> dict[str, Any] | None:
    """Return on each rank the state that the first has read, with the rank's own part where it has one."""
    tree, tensors = encode(state) if world.is_first else (None, None)
    tree, tensors = world.first(tree), world.firsts(tensors)
    found = decode(tree, tensors)
    if found is None:
        return None
    ranks = found.get("ranks") or {"size": 1, "others": []}
    kept = {name: ranks.get(name, {}) for name in ("take_buffers", "arrivals")}
    found["ranks"] = {"size": ranks["size"], **kept}
    begun_alone = ranks["size"] == 1 and "share" not in found["loop"]["source"]
    if ranks["size"] != world.size or begun_alone:
        begin_the_rest(found, ranks["size"])
    elif not world.is_first:
        part = ranks["others"][world.rank - 1]
        found["loop"]["source"] = part.pop("source")
        for key, moving in part.pop("moving").items():
            found["models"][key].update(moving)
        found.update(part)
    return found
