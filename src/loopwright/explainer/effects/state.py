"""What a program's parameters, gradients, buffers, modes and generators are like, and what changed.

Compared from one statement to the next: identity and version of ``.grad`` and of each parameter first, then a
sample of the contents (versions miss what is written through ``.data``, and fused optimizers bump none).
Norms are taken only of what changed.
"""

from __future__ import annotations

import random
import sys
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch

from loopwright.events.explained import Effects, GradNote, ParameterNote, RateNote
from loopwright.explainer.effects import values
from loopwright.explainer.effects.generators import numpy_seed
from loopwright.explainer.effects.planned import Planned, plan
from loopwright.observe import content

SHOWN = 3
FEW = 4
SMALL = 1 << 23
"""Bytes of buffers that are copied."""


class Entry:
    """One leaf that is watched: a parameter, or another tensor that requires grad."""

    __slots__ = (
        "grad", "grad_norm", "grad_sample", "grad_version", "name", "named", "numbers", "owner",
        "partly", "planned", "ref", "sample", "shadow", "used", "version",
    )  # fmt: skip

    def __init__(self, name: str, tensor: torch.Tensor, owner: int):
        self.name = name
        self.named = False
        """The program's own name, not one that we made up."""
        self.owner = owner
        """Identity of the module, or else the optimizer, that it belongs to; 0 if none."""
        self.ref = weakref.ref(tensor)
        self.numbers = tensor.numel()
        self.version = tensor._version
        self.sample: Any = None
        self.shadow: torch.Tensor | None = None
        """Its values as they were; None where there was no room."""
        self.planned: Planned | None = None
        """Of the step that comes, where no copy is kept."""
        self.used = True
        """A step has used the gradient as it is."""
        self.partly = False
        """A step has used it, and then it was added to."""
        self.grad: Any = None
        self.grad_version = 0
        self.grad_norm: float | None = None
        self.grad_sample: Any = None


class State:
    """Everything that is watched.

    Args:
        budget: bytes of parameters that are copied at most, so that their change can be measured.
    """

    def __init__(self, budget: int):
        self.budget = budget
        self.room = budget
        self.entries: dict[int, Entry] = {}
        self.roots: list[tuple[str, weakref.ref[torch.nn.Module]]] = []
        self.learning: set[int] = set()
        """Modules, by identity, that a backward pass has given a gradient."""
        self.flags: dict[int, list[bool]] = {}
        self.buffers: dict[int, tuple[str, Any, torch.Tensor | None]] = {}
        self.optimizers: list[tuple[str, weakref.ref[Any]]] = []
        self.rates: dict[int, list[dict[str, float]]] = {}
        self.generators = self._generators()
        self.put_back: set[str] = set()
        """Generators that torch has set to a kept state since the last look, as ``fork_rng`` does."""
        self.buffer_room = SMALL

    def add(self, name: str, tensor: torch.Tensor, owner: int = 0, *, named: bool = True) -> None:
        """Watch a leaf from now on; a later name of the program's own is a better one."""
        known = self.entries.get(id(tensor))
        if known is not None and known.ref() is tensor:
            if name and named and not known.named:
                known.name, known.named, known.owner = name, True, owner or known.owner
            return
        if not content.readable(tensor):
            return
        entry = Entry(name, tensor, owner)
        entry.named = named and bool(name)
        self.entries[id(tensor)] = entry
        with values.quiet():
            entry.sample = content.sample(tensor)
            self._copy(entry, tensor)
            self._note_grad(entry, tensor)

    def _copy(self, entry: Entry, tensor: torch.Tensor) -> None:
        size = values.bytes_of(tensor)
        if entry.shadow is None and size <= self.room:
            self.room -= size
            entry.shadow = tensor.detach().clone()

    def add_module(self, name: str, module: torch.nn.Module) -> bool:
        """Watch a root module's parameters, buffers and modes; False if it was watched already."""
        if any(ref() is module for _, ref in self.roots):
            return False
        self.roots = [one for one in self.roots if one[1]() is not None]
        self.roots.append((name, weakref.ref(module)))
        self.flags[id(module)] = [one.training for one in module.modules()]
        for path, parameter in module.named_parameters():
            self.add(self.called(name, path), parameter, id(module))
        for path, buffer in module.named_buffers():
            known = self.buffers.get(id(buffer))
            if (known is not None and known[1]() is buffer) or not content.readable(buffer):
                continue
            size = values.bytes_of(buffer)
            copied = None
            if size <= self.buffer_room:
                self.buffer_room -= size
                with values.quiet():
                    copied = buffer.detach().clone()
            self.buffers[id(buffer)] = (self.called(name, path), weakref.ref(buffer), copied)
        return True

    def in_eval(self) -> bool:
        """True where every model that learns is in eval mode; before any does, every model."""
        models = [module for _, ref in self.roots if (module := ref()) is not None]
        models = [one for one in models if id(one) in self.learning or not self.learning]
        return bool(models) and not any(one.training for one in models)

    def new_in(self, module: torch.nn.Module) -> bool:
        """True where it has parameters of which none is watched: it is no part of a model that is."""
        known = [self.entries.get(id(one)) for one in module.parameters()]
        return bool(known) and all(one is None or one.ref() is None for one in known)

    def called(self, root: str, path: str) -> str:
        """How a parameter is called: as in ``state_dict``, after its module's name."""
        return f"{root}.{path}" if root else path

    def add_optimizer(self, name: str, optimizer: Any) -> None:
        """Watch an optimizer's rates, and its parameters."""
        if any(ref() is optimizer for _, ref in self.optimizers):
            return
        self.optimizers = [one for one in self.optimizers if one[1]() is not None]
        self.optimizers.append((name, weakref.ref(optimizer)))
        self.rates[id(optimizer)] = _rates(optimizer)
        self.add_groups(name, optimizer)

    def add_groups(self, name: str, optimizer: Any) -> None:
        """Watch all that it updates: what was frozen may come later, in a group of its own."""
        for number, group in enumerate(optimizer.param_groups):
            for index, one in enumerate(group["params"]):
                if isinstance(one, torch.Tensor):
                    called = f"{name or 'optimizer'} group {number}[{index}]"
                    self.add(called, one, id(optimizer), named=False)

    def name_optimizer(self, name: str, optimizer: Any) -> None:
        """It was seen before its variable was assigned."""
        for at, (known, ref) in enumerate(self.optimizers):
            if ref() is optimizer and not known:
                self.optimizers[at] = (name, ref)

    def alive(self) -> list[tuple[Entry, torch.Tensor]]:
        """What is watched and still there."""
        found = []
        for key, entry in list(self.entries.items()):
            tensor = entry.ref()
            if tensor is None:
                if entry.shadow is not None:
                    self.room += values.bytes_of(entry.shadow)
                del self.entries[key]
            else:
                found.append((entry, tensor))
        return found

    def plan(self, optimizer: Any) -> None:
        """Compute beforehand what a step will do to the parameters of which no copy is kept."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                entry = self.entries.get(id(parameter))
                if entry is not None and entry.shadow is None:
                    entry.planned = plan(optimizer, group, parameter)

    def grad_norm(self, tensors: Iterable[torch.Tensor]) -> tuple[float | None, int]:
        """Norm of the gradients that are known of some tensors, and how many have one."""
        known = [self.entries.get(id(one)) for one in tensors]
        norms = [one.grad_norm for one in known if one is not None and one.grad_norm is not None]
        return (values.together(norms) if norms else None), len(norms)

    def use(self, tensors: Iterable[torch.Tensor]) -> None:
        """A step has used the gradients of these."""
        for one in tensors:
            entry = self.entries.get(id(one))
            if entry is not None:
                entry.used, entry.partly = True, False

    def unused(self, tensors: Iterable[torch.Tensor]) -> tuple[bool, bool]:
        """Whether some of these have a gradient that no step has used, and whether a part of all was."""
        found = [self.entries.get(id(one)) for one in tensors]
        known = [one for one in found if one is not None and one.grad_norm and not one.used]
        return bool(known), bool(known) and all(one.partly for one in known)

    def changes(self, effects: Effects, *, backward: bool, leaves: bool = True) -> None:
        """Put what changed since the last call into ``effects``.

        Args:
            effects: of the statement that ran.
            backward: a backward pass ran in it.
            leaves: look at parameters and gradients too; inside a module's forward nothing writes them.
        """
        with values.quiet():
            if leaves:
                alive = self.alive()
                self._grads(effects, alive, backward=backward)
                self._parameters(effects, alive)
                self._rates(effects)
            self._buffers(effects)
            self._modes(effects)
            self._rng(effects)

    def _grads(self, effects: Effects, alive: list[Any], *, backward: bool) -> None:
        found: dict[tuple[str, bool, bool], list[tuple[Entry, float | None, float | None]]] = {}
        grads: dict[int, torch.Tensor | None] = {}
        for entry, tensor in alive:
            before = entry.grad_norm
            grads[id(entry)] = tensor.grad
            if not self._grad_moved(entry, tensor.grad):
                continue
            other = entry.grad is not None and entry.grad() is not tensor.grad
            sample = entry.grad_sample
            self._note_grad(entry, tensor)
            after = entry.grad_norm
            entry.partly = before is not None and (entry.partly or entry.used) and backward
            entry.used = entry.used and not backward
            if backward:
                self.learning.add(entry.owner)
            if not (backward or other) and before == after and _alike(sample, entry.grad_sample):
                continue  # written in place with what it was, as clipping by a factor of 1 does
            if after is None:
                kind = "cleared"
            elif backward:  # -1 and 1 are 0, and nobody cleared it
                kind = "accumulated" if before else "written"
            elif after == 0 and before:
                kind = "zeroed"
            elif before is None:
                kind = "written"
            elif other:
                kind = "replaced"
            else:
                kind = "scaled" if before and after else "changed"
            # Of ``None`` and of 0 is not said in one breath, nor of parameters and of leaves beside them.
            found.setdefault((kind, before is None, not entry.owner), []).append(
                (entry, before, after)
            )
        for (kind, _, _), moved in found.items():
            old = [one for _, one, _ in moved if one is not None]
            new = [one for _, _, one in moved if one is not None]
            effects.grads.append(
                GradNote(
                    kind,  # type: ignore[arg-type]
                    len(moved),
                    _of([entry for entry, _, _ in moved], alive),
                    values.together(old) if old else None,
                    values.together(new) if new else None,
                    [entry.name for entry, _, _ in moved[:SHOWN]],
                    sum(entry.numbers for entry, _, _ in moved),
                    _few(grads.get(id(moved[0][0]))) if len(moved) == 1 else [],
                    _sparse([grads.get(id(entry)) for entry, _, _ in moved]),
                )
            )

    def _grad_moved(self, entry: Entry, grad: torch.Tensor | None) -> bool:
        known = entry.grad() if entry.grad is not None else None
        if grad is None:
            return entry.grad_norm is not None
        if known is not grad or grad._version != entry.grad_version:
            return True
        return entry.grad_sample is not None and not content.same(
            content.sample(grad), entry.grad_sample
        )

    def _note_grad(self, entry: Entry, tensor: torch.Tensor) -> None:
        grad = tensor.grad
        if grad is None:
            entry.grad = entry.grad_norm = entry.grad_sample = None
            return
        entry.grad = weakref.ref(grad)
        entry.grad_version = grad._version
        entry.grad_norm = values.norm(grad)
        entry.grad_sample = content.sample(grad) if content.readable(grad) else None

    def _parameters(self, effects: Effects, alive: list[Any]) -> None:
        moved: list[tuple[Entry, float, float]] = []
        sampled = False
        few: tuple[list[float], list[float]] = ([], [])
        for entry, tensor in alive:
            now = content.sample(tensor)
            same_version = entry.version == tensor._version
            entry.version = tensor._version
            same_sample = now.shape == entry.sample.shape and content.same(now, entry.sample)
            planned, entry.planned = entry.planned, None
            if same_version and same_sample and planned is None:
                continue
            before = entry.sample
            entry.sample = now
            few = (_few(before), _few(now)) if entry.numbers <= FEW else ([], [])
            if entry.shadow is not None and entry.shadow.shape == tensor.shape:
                delta = values.difference(tensor, entry.shadow)
                if delta:
                    moved.append((entry, delta, values.norm(entry.shadow)))
                    entry.shadow.copy_(tensor.detach())
            elif planned is not None and content.same(now, planned.sample):
                moved.append((entry, planned.delta, planned.norm))
            elif not same_sample and before.shape == now.shape:
                sampled = True
                scale = (entry.numbers / max(1, now.numel())) ** 0.5
                moved.append((entry, values.difference(now, before) * scale, values.norm(tensor)))
        if not moved:
            return
        largest = max(moved, key=lambda one: one[1])
        effects.parameters.append(
            ParameterNote(
                len(moved),
                _of([entry for entry, _, _ in moved], alive),
                values.together([delta for _, delta, _ in moved]),
                values.together([norm for _, _, norm in moved]),
                largest[0].name,
                largest[1],
                sum(entry.numbers for entry, _, _ in moved),
                exact=not sampled,
                how=f"{content.SAMPLED} elements of each" if sampled else "",
                before=few[0] if len(moved) == 1 else [],
                after=few[1] if len(moved) == 1 else [],
            )
        )

    def _rates(self, effects: Effects) -> None:
        for name, ref in self.optimizers:
            optimizer = ref()
            if optimizer is None:
                continue
            now = _rates(optimizer)
            for number, (old, new) in enumerate(zip(self.rates[id(optimizer)], now, strict=False)):
                effects.rates += [
                    RateNote(name, number, key, old[key], new[key])
                    for key in new
                    if key in old and new[key] != old[key]
                ]
            self.rates[id(optimizer)] = now

    def _buffers(self, effects: Effects) -> None:
        for name, ref, copied in self.buffers.values():
            buffer = ref()
            if buffer is None or copied is None or buffer.shape != copied.shape:
                continue
            if not content.same(buffer, copied):
                effects.buffers[name] = values.difference(buffer, copied)
                copied.copy_(buffer.detach())

    def _modes(self, effects: Effects) -> None:
        seen: set[int] = set()  # of modules: one may be watched by itself and as a part of another
        for _, ref in self.roots:
            module = ref()
            if module is None:
                continue
            before = self.flags[id(module)]
            now = [one.training for one in module.modules()]
            if now != before:
                for one, old in zip(module.modules(), before, strict=False):
                    if len(now) == len(before) and one.training != old and id(one) not in seen:
                        seen.add(id(one))
                        effects.to_train += one.training
                        effects.to_eval += old
                self.flags[id(module)] = now

    def _rng(self, effects: Effects) -> None:
        now = self._generators()
        for name, new in now.items():
            old = self.generators.get(name)
            if old is not None and not _equal(old, new):
                seed = numpy_seed(new) if name == "numpy" else None
                into = effects.restored if name in self.put_back else effects.rng
                if seed is not None:
                    into = effects.seeded
                    effects.seeds[name] = seed
                if name not in into:
                    into.append(name)
        self.generators = now
        self.put_back.clear()

    def set_by_call(self, effects: Effects, name: str, *, seeded: bool) -> None:
        """A generator was seeded, or set to a state: from here on it is what it is now."""
        into = effects.seeded if seeded else effects.restored
        if name not in into:
            into.append(name)
        self.generators = self._generators()

    def _generators(self) -> dict[str, Any]:
        found: dict[str, Any] = {"torch": torch.get_rng_state(), "python": random.getstate()}
        numpy = sys.modules.get("numpy")
        if numpy is not None and hasattr(numpy, "random"):
            state: Callable[..., Any] = numpy.random.get_state
            _, keys, *rest = state()
            found["numpy"] = (keys.tobytes(), *rest)
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["cuda"] = torch.cuda.get_rng_state()
        return found


def _alike(first: torch.Tensor | None, second: torch.Tensor | None) -> bool:
    return first is not None and second is not None and content.same(first, second)


def _of(moved: list[Entry], alive: list[Any]) -> int:
    """How many are watched of the modules or optimizers that the moved ones belong to."""
    owners = {entry.owner or id(entry) for entry in moved}
    return sum((entry.owner or id(entry)) in owners for entry, _ in alive)


def _few(tensor: torch.Tensor | None) -> list[float]:
    if (
        tensor is None
        or tensor.numel() > FEW
        or tensor.layout != torch.strided
        or tensor.is_complex()
    ):
        return []
    return [float(one) for one in tensor.detach().reshape(-1).cpu()]


def _sparse(grads: list[torch.Tensor | None]) -> list[int]:
    """How many are sparse, how many rows they hold, and of how many; empty where none is."""
    found = [one for one in grads if one is not None and one.layout == torch.sparse_coo]
    rows = sum(one._indices()[0].unique().numel() for one in found)
    return [len(found), rows, sum(one.shape[0] for one in found)] if found else []


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    return bool(first == second)


def _rates(optimizer: Any) -> list[dict[str, float]]:
    found = []
    for group in optimizer.param_groups:
        one = {}
        for key in ("lr", "momentum", "weight_decay"):
            value = group.get(key)
            if isinstance(value, torch.Tensor):
                value = float(value)
            if isinstance(value, (int, float)):
                one[key] = float(value)
        for at, beta in enumerate(group.get("betas") or ()):
            one[f"betas[{at}]"] = float(beta)
        found.append(one)
    return found
