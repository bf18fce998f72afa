"""The mixing account: does a view keep the samples of a batch apart?

The axis of samples is the one that a model's input and its output share. In the recorded forwards each
``view`` and ``reshape`` of a tensor that has this axis is asked where it went: it may stay, be merged with
others or be split, but what lay side by side in memory as another axis must not come out as samples. That is
arithmetic on shapes; no value is looked at.

A recurrent layer takes the first axis of its input for time unless it was made with ``batch_first``. Where a
loader of torch's has put shuffled samples there, it carries its state from one sample to the next.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from loopwright.checker.accounts.data import Data
from loopwright.checker.accounts.parameters import Parameters
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event

LEAST = 4
"""Samples in a batch: smaller numbers are sizes of other axes too often."""


class Mixing:
    """The account; see the module."""

    def __init__(self, here: Any, data: Data, parameters: Parameters):
        self.here = here
        self.data, self.parameters = data, parameters
        self.samples_as_time = Tally()
        """Recurrent layers, by number, that ran along the samples; those that ran along time."""
        self.along_time: set[int] = set()
        self.kept = Tally()
        """Views that kept the samples apart, by place."""
        self.mixed = Tally()

    def after_forward(self, event: Event) -> None:
        """Look at the views of a recorded forward that builds a graph."""
        if not event.failed and torch.is_grad_enabled():
            self._recurrent(event)
        operations = self.here.operations
        if not operations or event.failed or not torch.is_grad_enabled():
            return
        samples = _samples(event)
        if samples < LEAST:
            return
        views = [one for one in operations if one.name in ("view", "reshape")]
        undone = {(one.result, one.given) for one in views}
        for view in views:
            if (view.given, view.result) in undone or math.prod(view.given) == 0:
                continue
            mixes = mixes_samples(view.given, view.result, samples)
            if mixes is None:
                continue
            if not mixes:
                self.kept.add(view.site)
                continue
            seen = self.mixed.add(view.site, view=view.site, forward=event.site)
            seen.facts |= {"given": view.given, "result": view.result, "samples": samples}

    def _recurrent(self, event: Event) -> None:
        """Which axis do the recurrent layers take for time?"""
        loader = self.data.current
        rows = loader.rows if loader is not None and loader.stacks and loader.random else 0
        given = next((one for one in event.args if isinstance(one, torch.Tensor)), None)
        if rows < LEAST or given is None or given.dim() < 2 or given.shape[0] != rows:
            return
        for call in self.here.inner or ():
            layer = call.module
            if not isinstance(layer, nn.RNNBase) or len(call.given) != 3:
                continue
            time, batch = call.given[1::-1] if layer.batch_first else call.given[:2]
            if time == rows and 2 <= batch != rows:
                birth = self.parameters.birth_of(layer)
                made = birth.site if birth is not None else event.site
                seen = self.samples_as_time.add(id(layer), made=made, forward=event.site)
                seen.facts |= {"shape": call.given, "kind": type(layer).__name__}
            else:
                self.along_time.add(id(layer))


def _samples(event: Event) -> int:
    """The size of the axis that the first tensor of the output begins with, where an input has it once."""
    output = event.result
    if isinstance(output, dict):
        output = tuple(output.values())
    outputs = output if isinstance(output, (tuple, list)) else (output,)
    first = next((one for one in outputs if isinstance(one, torch.Tensor) and one.dim()), None)
    if first is None:
        return 0
    size = first.shape[0]
    inputs = [one for one in (*event.args, *event.kwargs.values()) if isinstance(one, torch.Tensor)]
    return size if any(list(one.shape).count(size) == 1 for one in inputs) else 0


def mixes_samples(given: tuple[int, ...], result: tuple[int, ...], samples: int) -> bool | None:
    """Does a view of these shapes mix what lay on the axis of that size?

    Returns:
        None where the axis cannot be told from others.
    """
    if given.count(samples) != 1:
        return None
    inner = math.prod(given[given.index(samples) + 1 :])
    strides = [math.prod(result[axis + 1 :]) for axis in range(len(result))]
    candidates = [axis for axis, size in enumerate(result) if size and size % samples == 0]
    for axis in candidates:
        more, stride = result[axis] // samples, strides[axis]
        if inner % stride == 0 and more % (inner // stride) == 0:
            return False
    if result.count(samples) == 1:
        return True
    if len(candidates) == 1:
        whole = _is_cut(inner, result, strides) and _is_cut(inner * samples, result, strides)
        return None if whole else True
    return None


def _is_cut(position: int, shape: tuple[int, ...], strides: list[int]) -> bool:
    """True where the axes of a shape could be split so that one begins every ``position`` elements."""
    if position == math.prod(shape):
        return True
    for size, stride in zip(shape, strides, strict=True):
        if stride <= position < stride * size:
            return position % stride == 0 and (stride * size) % position == 0
    return False
