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
        if len(set(flat.tolist())) > 2 and torch.equal(flat, wanted.to(flat.dtype)):
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
            leak = _attends_ahead(softmaxes, indices.shape[1])
            if leak:
                place.note("future", weight=leak, length=indices.shape[1])
                continue
            steps, conv = furthest_ahead(given.grad_fn, source, indices.shape[1])
            if steps:
                made = parameters.maker_of_weight(conv)
                place.note("future taps", steps=steps, length=indices.shape[1], made=made)


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


def _attends_ahead(softmaxes: list[Any], length: int) -> float:
    """The largest attention weight on a later position; 0 where none was seen."""
    most = 0.0
    for node in softmaxes:
        name = node.name()
        if "ScaledDotProduct" in name:
            mask = (
                graph.saved(node, "attn_mask")
                if graph.saved(node, "attn_mask") is not None
                else graph.saved(node, "attn_bias")
            )
            if graph.saved(node, "is_causal") is False and mask is None:
                query, key = graph.saved(node, "query"), graph.saved(node, "key")
                if isinstance(query, torch.Tensor) and query.shape[-2] == length == key.shape[-2]:
                    most = max(most, 1.0 / length)
            continue
        weights = graph.saved(node, "result")
        if (
            isinstance(weights, torch.Tensor)
            and weights.dim() >= 3
            and weights.shape[-2:] == (length, length)
        ):
            most = max(most, float(weights.triu(1).max()))
    return most
