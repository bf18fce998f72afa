"""What a language model is asked for beside what it was given: shifted targets, padding, and a look ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from loopwright.checker.accounts.ahead import furthest_ahead
from loopwright.events import Event
from loopwright.observe import graph

if TYPE_CHECKING:
    from loopwright.checker.accounts.losses import LossPlace
    from loopwright.checker.accounts.parameters import Parameters

TOKEN_LOOKS = 4
"""Targets are compared with tokens in the first looks only: the graph is searched for embeddings."""


def look_at_tokens(
    place: LossPlace,
    event: Event,
    given: torch.Tensor,
    target: torch.Tensor,
    parameters: Parameters,
) -> None:
    """Targets beside the token indices that an embedding was given."""
    if target.is_floating_point() or place.looks > TOKEN_LOOKS or target.numel() < 4:
        return
    embeddings = []
    softmaxes = []
    for number, node in enumerate(graph.nodes(given.grad_fn, 4000)):
        name = node.name()
        if name.startswith("Embedding"):
            embeddings.append(node)
        elif name.startswith(("Softmax", "SafeSoftmax")) or "ScaledDotProduct" in name:
            softmaxes.append(node)
        if number > 4000:
            return
    ignore = event.args[4] if len(event.args) > 4 else event.kwargs.get("ignore_index", -100)
    tokens = []
    for node in embeddings:
        indices = graph.saved(node, "indices")
        if isinstance(indices, torch.Tensor) and indices.dim() == 2 and indices.shape[1] > 1:
            tokens.append((indices, graph.saved(node, "padding_idx"), node))
    sequence = [one for one in tokens if one[0].numel() == target.numel()]
    for indices, padding, source in sequence:
        flat, wanted = indices.reshape(-1), target.reshape(-1)
        asked = wanted != ignore  # a prompt and the padding are asked for nothing
        enough = int(asked.sum()) >= min(8, target.numel())
        if enough and _repeats(flat[asked], wanted[asked]):
            place.note(
                "target is input",
                embeddings=len(tokens),
                causal=_is_causal(softmaxes, indices.shape[1]),
                shape=tuple(indices.shape),
            )
        _padding(place, indices, target.reshape(indices.shape), padding, ignore)
        if indices.numel() and torch.equal(
            indices[:, 1:].reshape(-1),
            target.reshape(indices.shape)[:, :-1].reshape(-1).to(indices.dtype),
        ):
            place.note("next token", embeddings=len(tokens), length=indices.shape[1])
            leak = _attends_ahead(softmaxes, indices.shape[1], source)
            if leak:
                place.note("future", weight=leak, length=indices.shape[1])
                continue
            steps, conv = furthest_ahead(given.grad_fn, source, indices.shape[1])
            if steps:
                made = parameters.maker_of_weight(conv)
                place.note("future taps", steps=steps, length=indices.shape[1], made=made)


def _repeats(given: torch.Tensor, wanted: torch.Tensor) -> bool:
    """True where several tokens, of several kinds, are asked for where they stand."""
    return len(set(given.tolist())) > 2 and torch.equal(given, wanted.to(given.dtype))


def _padding(
    place: LossPlace, indices: torch.Tensor, target: torch.Tensor, padding: Any, ignore: Any
) -> None:
    if not isinstance(padding, int) or padding < 0 or padding > 1 << 40 or ignore == padding:
        return
    counted = target == padding
    share = float(counted.float().mean())
    # Padding is at the end of rows, in inputs and targets alike (those may be one token ahead).
    if share < 0.02 or not bool((indices == padding).any()):
        return
    tail = counted.flip(1).long().cumprod(1).flip(1).bool()
    inner_padding = bool((counted & ~tail).any())
    ends = (indices == padding)[:, 1:] <= counted[:, 1:]
    if not inner_padding and bool(ends.all()):
        place.note("padding counted", share=share, padding=padding, ignore=ignore)


def _is_causal(softmaxes: list[Any], length: int) -> bool:
    """True when every attention over the sequence was kept from looking ahead."""
    seen = False
    for node in softmaxes:
        if "ScaledDotProduct" in node.name():
            if not graph.saved(node, "is_causal"):
                return False
            seen = True
            continue
        weights = graph.saved(node, "result")
        if isinstance(weights, torch.Tensor) and weights.shape[-2:] == (length, length):
            if float(weights.triu(1).abs().max()) > 0:
                return False
            seen = True
    return seen


def _attends_ahead(softmaxes: list[Any], length: int, source: Any) -> float:
    """The largest weight on a later position in an attention on this sequence; 0 where none was seen.

    Its keys must come from the embedding ``source``: an encoder attends to all of a sequence of its own.
    """
    most = 0.0
    for node in softmaxes:
        if "ScaledDotProduct" in node.name():
            weight = _weight_of_attention(node, length)
        else:
            weights = graph.saved(node, "result")
            square = isinstance(weights, torch.Tensor) and weights.dim() >= 3
            square = square and weights.shape[-2:] == (length, length)
            weight = float(weights.triu(1).max()) if square else 0.0
        if weight > most and _keys_from(node, source):
            most = weight
    return most


def _weight_of_attention(node: Any, length: int) -> float:
    """What a fused attention without a mask gives to a later position at least, on average."""
    mask = graph.saved(node, "attn_mask")
    mask = mask if mask is not None else graph.saved(node, "attn_bias")
    if graph.saved(node, "is_causal") is not False or mask is not None:
        return 0.0
    query, key = graph.saved(node, "query"), graph.saved(node, "key")
    square = isinstance(query, torch.Tensor) and query.shape[-2] == length == key.shape[-2]
    return 1.0 / length if square else 0.0


def _keys_from(node: Any, source: Any) -> bool:
    """True where everything that an attention compares, its keys too, comes from ``source``."""
    if "ScaledDotProduct" in node.name():
        compared = [inner for inner, _ in node.next_functions[:2]]
    else:
        product = _product_below(node)
        compared = [inner for inner, _ in product.next_functions] if product is not None else []
    return len(compared) >= 2 and all(
        inner is not None and any(one is source for one in graph.nodes(inner, 4000))
        for inner in compared[:2]
    )


def _product_below(node: Any, steps: int = 12) -> Any:
    """The product of queries and keys that a softmax was taken of, below scaling and masks."""
    pending = [inner for inner, _ in node.next_functions if inner is not None]
    for _ in range(steps):
        if not pending:
            return None
        node = pending.pop(0)
        if node.name().startswith(("Bmm", "Mm", "Matmul", "Baddbmm", "Addbmm")):
            return node
        pending += [inner for inner, _ in node.next_functions if inner is not None]
    return None
