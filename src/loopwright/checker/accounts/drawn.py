"""What is drawn after a seed: the state at the steps that follow, and at those of the time before.

A seed that is set again is no mistake by itself: a table of folds begins each of them alike, and where
nothing is drawn nothing repeats. So the state is hashed (5 kB) at the first few steps after a seed that was
set before; the steps draw the same numbers when the same optimizer finds the same states at the same steps.

A seed that is set within the step, once or several times, is followed by one draw or two. There the state at
the next seed or step is compared: equal ones, other than right after the seed, say that the same was drawn.
``fork_rng`` and its like put the state of before back, which is no draw.
"""

from __future__ import annotations

import zlib
from collections import Counter
from typing import Any

import torch

from loopwright.checker.accounts.optimizers import Optimizers
from loopwright.checker.accounts.tally import Tally
from loopwright.events import Event
from loopwright.observe.sites import Site

STEPS = 8
SEEDS = 8
WITHIN = 64
"""Seeds of one key that are followed to the next seed or step."""
Key = tuple[Site, Any]


class Drawn:
    """The account; see the module."""

    def __init__(self, optimizers: Optimizers):
        self.optimizers = optimizers
        self.seeds = Tally()
        """(place, value) -> how often the generator was set to it there."""
        self.steps_at_seed: dict[Key, list[int]] = {}
        self.repeated: Counter[Key] = Counter()
        """Seeds after which the first steps drew what they had drawn after the same seed before."""
        self.within_steps: Counter[Key] = Counter()
        """Steps that drew after a seed what another step had drawn after it."""
        self._open: tuple[Key, int] | None = None
        """The latest seed with gradients on: its key, and the state right after it."""
        self._drawn_at: dict[Key, dict[int, tuple[int, int]]] = {}
        """State at the next seed or step -> steps so far when it was seen last, and who took the last one."""
        self._stepper = -1
        self._now: Key | None = None
        self._fresh = self._begun = 0
        self._measured = False
        """A forward without gradients came between the seed and its first step."""
        self._states: dict[int, tuple[int, int]] = {}
        """Steps since the seed -> the optimizer and the state that it found."""
        self._earlier: dict[Key, dict[int, tuple[int, int]]] = {}

    def before_seed(self, event: Event) -> None:
        """The generator is about to be set to a value."""
        self._end_of_draws()

    def after_seed(self, event: Event) -> None:
        """The generator was set to a value."""
        self._close()
        value = event.args[0] if event.args else event.kwargs.get("seed")
        key = (event.site, value if isinstance(value, int) else None)
        seen = self.seeds.add(key, seed=event.site)
        seen.facts["value"] = value
        if key[1] is not None and torch.is_grad_enabled() and seen.count <= WITHIN:
            self._open = key, state_of_generator()
        steps = self.steps_at_seed.setdefault(key, [])
        if len(steps) < 64:
            steps.append(self.optimizers.total_steps)
        if 2 <= seen.count <= SEEDS and key[1] is not None:
            self._now, self._begun = key, self.optimizers.total_steps
            self._fresh, self._measured = state_of_generator(), False

    def after_generator_state(self, event: Event) -> None:
        """A state was put back: what was drawn since the seed is as if it had not been."""
        self._open = None

    def before_forward(self, event: Event) -> None:
        """A measurement draws too, and what it draws is not the training's."""
        self._measured = self._measured or (not self._states and not torch.is_grad_enabled())
        if not torch.is_grad_enabled():
            self._open = None

    def before_step(self, event: Event) -> None:
        """The first steps after a seed."""
        self._end_of_draws()
        self._stepper = self.optimizers.of(event.subject, event).order
        if self._now is not None and len(self._states) < STEPS:
            order = self.optimizers.of(event.subject, event).order
            since = self.optimizers.total_steps - self._begun
            if since < STEPS:
                self._states[since] = (order, state_of_generator())

    def _end_of_draws(self) -> None:
        """The next seed or step: was the same drawn after this seed before, in another step?"""
        if self._open is None:
            return
        (key, fresh), self._open = self._open, None
        state = state_of_generator()
        if state == fresh:
            return
        steps, known = self.optimizers.total_steps, self._drawn_at.setdefault(key, {})
        earlier, stepper = known.get(state, (steps, -1))
        # With another optimizer it is another training, which may well begin alike.
        self.within_steps[key] += earlier < steps and stepper == self._stepper
        if state in known or len(known) < SEEDS:
            known[state] = steps, self._stepper

    def _close(self) -> None:
        """The next seed: were these steps those of the time before?"""
        key, states = self._now, self._states
        self._now, self._states = None, {}
        if key is None or not states:
            return
        earlier, self._earlier[key] = self._earlier.get(key), states
        different = {state for _, state in states.values()}
        drawn = len(different) > 1 or (not self._measured and self._fresh not in different)
        if earlier is not None and len(states) > 1 and drawn and earlier == states:
            self.repeated[key] += 1


def state_of_generator() -> int:
    """A number for the state of torch's own generator."""
    return zlib.crc32(torch.get_rng_state().numpy().tobytes())
