"""Gradients in the order of `model.parameters()`, in which a plain loop clips them.

A norm is a sum, whose last bits depend on the order. An optimizer whose groups are made by kind (weights with
decay, biases without) has another one than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from loopwright.train.update.gradients import Groups
from loopwright.train.update.window import Window


class ModelOrder:
    """The order of all parameters that a run's models have; others come after them.

    Args:
        windows: of all optimizers.
        names: of the models' parameters, in their order.
    """

    def __init__(self, windows: Sequence[Window], names: Callable[[], Mapping[Tensor, str]]):
        self._windows = windows
        self._names = names
        self._sizes: list[int] = []
        self._is_groups = True
        self._places: dict[int, int] = {}
        self._kept: list[Tensor] = []  # so that no other tensor gets the id of one

    def gradients(self, held: Iterable[Groups]) -> list[Tensor]:
        """Return the gradients of some optimizers' groups in the models' order."""
        groups = [group for some in held for group in some]
        grads = [grad for _, _, some in groups for grad in some]
        if self._is_that_of_groups():  # 0.5 µs
            return grads
        params = [parameter for _, some, _ in groups for parameter in some]
        places = self._places_of(params)
        return [grads[i] for i in sorted(range(len(grads)), key=places.__getitem__)]

    def sort(self, parameters: Sequence[Tensor]) -> list[Any]:
        """Return parameters, which are in the order of groups, in the models' order."""
        if self._is_that_of_groups():
            return [*parameters]
        places = self._places_of(parameters)
        return [parameters[i] for i in sorted(range(len(places)), key=places.__getitem__)]

    def _is_that_of_groups(self) -> bool:
        sizes = [
            len(g["params"]) for window in self._windows for g in window.optimizer.param_groups
        ]
        if sizes != self._sizes:
            self._sizes = sizes
            self._look()
            places = self._places_of([p for window in self._windows for p in window.parameters()])
            self._is_groups = places == sorted(places)
        return self._is_groups

    def _places_of(self, parameters: Sequence[Tensor]) -> list[int]:
        if any(id(parameter) not in self._places for parameter in parameters):
            self._look()
        return [self._places[id(parameter)] for parameter in parameters]

    def _look(self) -> None:
        others = [p for window in self._windows for p in window.parameters()]
        self._kept = list(dict.fromkeys([*self._names(), *others]))
        self._places = {id(parameter): place for place, parameter in enumerate(self._kept)}
