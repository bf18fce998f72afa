"""How far a convolution lets a sequence model look ahead, read from a graph that the program has built.

Walking from a loss to an embedding, each convolution over time adds how far its last tap lies ahead of the
position that it computes; padding on the left takes away from it. Taps whose weights are zero do not count,
so that masked convolutions are taken for what they do. A path through an operation that is not known here
counts for nothing: what is found is a path that is really there.
"""

from __future__ import annotations

from typing import Any

import torch

from loopwright.observe import graph

KNOWN = (
    "Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Mish", "Tanh",
    "Sigmoid", "Softplus", "Glu", "LogSoftmax", "NativeDropout", "NativeLayerNorm", "NativeBatchNorm",
    "NativeGroupNorm", "Transpose", "T", "Permute", "Unsqueeze", "Squeeze", "Clone", "ToCopy", "View",
    "UnsafeView", "Reshape", "ReshapeAlias", "Alias", "Expand", "Cat", "Split", "Chunk", "Addmm", "Mm",
    "Linear", "NllLoss",
)  # fmt: skip
NAMES = frozenset(f"{name}Backward{number}" for name in KNOWN for number in range(4))
NONE = float("-inf")


def furthest_ahead(root: Any, source: Any, length: int, limit: int = 4000) -> tuple[int, Any]:
    """The most positions that an output sees ahead through convolutions, and the last one that adds to it.

    Args:
        root: a node of a model's output.
        source: the node that made the sequence (an embedding's).
        length: of the sequence.
        limit: nodes that are visited at most.

    Returns:
        (0, None) where no path is known that looks ahead.
    """
    ahead: dict[Any, tuple[float, Any]] = {source: (0.0, None)}
    pending = [root]
    while pending and len(ahead) < limit:
        node = pending[-1]
        if node in ahead:
            pending.pop()
            continue
        own = 0.0 if node.name() in NAMES else _own(node, length)
        below = [inner for inner, _ in node.next_functions if inner is not None]
        waiting = [inner for inner in below if inner not in ahead] if own is not None else []
        if waiting:
            pending += waiting
            continue
        pending.pop()
        most, conv = NONE, None
        for inner in below if own is not None else ():
            if ahead[inner][0] > most:
                most, conv = ahead[inner]
        adds = own is not None and own > 0 and most > NONE
        ahead[node] = (most + (own or 0.0), node if adds else conv)
    most, conv = ahead.get(root, (NONE, None))
    return (int(most), conv) if most >= 1 else (0, None)


def _own(node: Any, length: int) -> float | None:
    """What one operation adds; None where that is not known."""
    name = node.name()
    if name.startswith("ConstantPadNd"):
        pad = graph.saved(node, "pad") or ()
        return -float(pad[0]) if len(pad) >= 2 and not any(pad[2:]) else None
    if name.startswith("Slice"):
        # Cut at the end only: what is left stays where it was.
        return 0.0 if graph.saved(node, "start") == 0 and graph.saved(node, "step") == 1 else None
    if not name.startswith("Convolution") or graph.saved(node, "transposed"):
        return None
    weight, given = graph.saved(node, "weight"), graph.saved(node, "input")
    stride, dilation = graph.saved(node, "stride"), graph.saved(node, "dilation")
    padding = graph.saved(node, "padding")
    if not isinstance(weight, torch.Tensor) or not isinstance(given, torch.Tensor):
        return None
    if weight.dim() != 3 or tuple(stride) != (1,) or given.shape[-1] < length:
        return None
    taps = weight.detach().abs().amax((0, 1)).nonzero()
    if not len(taps):
        return None
    return float(int(taps[-1]) * dilation[0] - padding[0])
