"""The last position of each row, taken as if every row were as long as the longest.

``out[:, -1]`` after a padded batch is, for all shorter rows, what came after padding. The operation keeps its
axis and index in the graph, and the embedding below it the tokens and the index that it was told is padding.
"""

from __future__ import annotations

from typing import Any

import torch

from loopwright.observe import graph

LAST = (-1, 2**64 - 1)
"""An index that was given as -1 is saved as an unsigned number."""
LEAST = 0.1
"""Of the rows; a stray padding token at an end is none."""


def padded_share(node: Any) -> float:
    """The share of rows that end in padding where ``node`` takes the last position of each; else 0."""
    if not node.name().startswith("SelectBackward") or graph.saved(node, "dim") != 1:
        return 0.0
    sizes = graph.saved(node, "self_sym_sizes") or ()
    if len(sizes) != 3 or graph.saved(node, "index") not in (*LAST, sizes[1] - 1):
        return 0.0
    shares = {
        share
        for one in graph.nodes(node, 4000)
        if one.name().startswith("Embedding")
        and (share := _ends_in_padding(one, sizes[:2])) is not None
    }
    return shares.pop() if len(shares) == 1 else 0.0


def _ends_in_padding(embedding: Any, shape: tuple[int, ...]) -> float | None:
    """How many rows of an embedding's tokens end in padding; None where they are not padded at the end."""
    tokens, padding = graph.saved(embedding, "indices"), graph.saved(embedding, "padding_idx")
    if not isinstance(tokens, torch.Tensor) or tuple(tokens.shape) != tuple(shape):
        return None
    if not isinstance(padding, int) or not 0 <= padding < 1 << 40 or tokens.shape[1] < 2:
        return None
    is_padding = tokens == padding
    share = float(is_padding[:, -1].float().mean())
    only_at_the_end = not bool((is_padding[:, :-1] & ~is_padding[:, 1:]).any())
    some_full = bool((~is_padding[:, -1]).any()) and not bool(is_padding[:, 0].any())
    return share if share >= LEAST and only_at_the_end and some_full else None
