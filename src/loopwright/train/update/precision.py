"""fp32, bf16 and fp16: the autocast region of a loop's body, and the gradient scaler of fp16."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.amp.grad_scaler import OptState

from loopwright.errors import NonFiniteError, UsageError

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
SKIPS_IN_A_ROW = 50
"""fp16 updates that may be skipped one after the other; the scale has then been halved 50 times."""


class Precision:
    """Autocast and scaling for one run; for fp32 every method is a no-op."""

    def __init__(self, name: str, device: torch.device):
        if name not in PRECISIONS:
            raise UsageError(
                f"precision {name!r} is not known",
                slug="unknown-precision",
                hint=f"one of {', '.join(PRECISIONS)}",
            )
        self.name = name
        self.device = device
        self.dtype = PRECISIONS[name]
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None
        self.skipped = 0
        self._skips_in_a_row = 0
        self._unsettled = self._skipped_one = False

    def region(self) -> Any:
        """Return a fresh autocast context, None for fp32."""
        return None if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def off(self) -> Any:
        """Return a context in which autocast is off, None for fp32 (where it is not on)."""
        if self.dtype is None:
            return None
        return torch.autocast(self.device.type, enabled=False)

    def forget_weights(self) -> None:
        """Drop the low-precision weight copies that autocast caches until its outermost exit.

        A forward after an update in the same body would otherwise use the weights before it
        (off by 1.24 in a bf16 trial), and one after a ``no_grad`` forward would find copies without
        a graph (pytorch#65766).
        """
        if self.dtype is not None:
            torch.clear_autocast_cache()

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss times the scale of fp16, the loss itself otherwise."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the optimizer's gradients by the scale, in place, once per update."""
        if self.scaler is None:
            return
        if self._stage(optimizer) is OptState.STEPPED:
            # A second update before the scale could be settled: what the first one found still counts.
            states = self.scaler._per_optimizer_states
            states[-1 - len(states)] = states.pop(id(optimizer))
        self.scaler.unscale_(optimizer)

    def forget_unscaled(self, optimizer: torch.optim.Optimizer) -> None:
        """Forget that the gradients of ``optimizer`` were unscaled: they were thrown away."""
        if self.scaler is not None and self._stage(optimizer) is OptState.UNSCALED:
            del self.scaler._per_optimizer_states[id(optimizer)]

    def _stage(self, optimizer: torch.optim.Optimizer) -> OptState:
        assert self.scaler is not None
        states = self.scaler._per_optimizer_states
        return states[id(optimizer)]["stage"] if id(optimizer) in states else OptState.READY

    def found_nonfinite(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the unscaled gradients of ``optimizer`` hold inf or nan (one sync)."""
        if self.scaler is None:
            return False
        found = self.scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        return any(flag.item() for flag in found.values())

    def note(self, skipped: bool) -> None:
        """Note that an update was done, or skipped."""
        self._unsettled = True
        self._skipped_one = self._skipped_one or skipped

    def settle(self, turn: int) -> None:
        """Adapt the scale; count a skip, and bound skips in a row.

        Only while no window is open: gradients that were scaled by one scale must not be unscaled by
        another.
        """
        if self.scaler is None or not self._unsettled:
            return
        self.scaler.update()
        skipped, self._skipped_one, self._unsettled = self._skipped_one, False, False
        if not skipped:
            self._skips_in_a_row = 0
            return
        self.skipped += 1
        self._skips_in_a_row += 1
        if self._skips_in_a_row >= SKIPS_IN_A_ROW:
            scale = self.scaler.get_scale()
            raise NonFiniteError(
                f"fp16 gradients were not finite in {SKIPS_IN_A_ROW} updates in a row "
                f"(turn {turn + 1}, scale now {scale:.3g})",
                slug="fp16-never-finite",
                hint='the loss itself is not finite, or the model needs precision="bf16"',
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state and the counts; empty for fp32 and bf16."""
        if self.scaler is None:
            return {}
        return {
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
            "in_a_row": self._skips_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what ``state_dict`` returned."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state["scaler"])
            self.skipped = state["skipped"]
            self._skips_in_a_row = state["in_a_row"]


def power_of_two_near(weight: float | torch.Tensor) -> float | torch.Tensor:
    """Return 2**round(log2(weight)), on the weight's device; 1 for a weight of zero.

    Weights of a window are taken relative to it: a power of two divides exactly, and fp16
    gradients keep their magnitude.
    """
    if isinstance(weight, torch.Tensor):
        power = torch.exp2(
            torch.round(
                torch.log2(weight.double() if weight.device.type != "mps" else weight.float())
            )
        )
        return torch.where(torch.isfinite(power) & (power > 0), power, torch.ones_like(power))
    return 2.0 ** round(math.log2(weight)) if weight > 0 else 1.0
