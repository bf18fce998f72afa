"""A survey of the parameters while they are alive: plain facts that outlive the program."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from loopwright.checker.accounts.optimizers import Entry
from loopwright.observe import content, graph
from loopwright.observe.sites import Position, Site, user_frame
from loopwright.observe.storing import (
    attribute_set,
    cuts_of_result,
    item_set_anywhere,
    program_codes,
)

if TYPE_CHECKING:
    from loopwright.checker.accounts.parameters import Parameters


@dataclass(slots=True)
class Fact:
    """What is known of one parameter."""

    name: str
    shape: tuple[int, ...]
    made: Site | None
    """Where the module that has registered it was made."""
    made_at: int
    fresh: bool
    registered: bool
    """It is among ``parameters()`` of a module that the program calls."""
    held: str = ""
    """The path of the plain container or attribute that holds it."""
    leaf: bool = True
    is_parameter: bool = True
    key: int = 0
    """Its id, for asking later whether it took part in a graph after all."""
    walks: int = 0
    called: bool = False
    cut: bool = False
    constant: Site | None = None
    """Where all of its values were made equal."""
    elements: int = 0
    stepped: bool = False
    """Some optimizer has stepped it, at some time."""
    stored: Position | None = None
    """Where the attribute that holds it is set."""
    around: Site | None = None
    """The line of the module around that made its module, directly or through a function."""
    unit: Site | None = None
    """Where the outermost module was made that holds it and was never called."""
    left_out: tuple[Site, list[Position]] | None = None
    """Where its module ran with gradients, and where what it returned was taken out of the graph."""
    instead: Site | None = None
    """Where its like, of one parent and of equal shapes, was called a second time in one forward."""


@dataclass(slots=True)
class Held:
    """What one optimizer held at the survey."""

    entry: Entry
    total: int = 0
    frozen: int = 0
    reached: int = 0
    unreached: list[Fact] = field(default_factory=list)
    replaced: list[Fact] = field(default_factory=list)
    """Frozen ones that no module of the program has any more."""


class Shared(NamedTuple):
    """One module several times in a container."""

    path: str
    kind: str
    times: int
    made: Site | None
    weights: int
    bytes: int
    calls: int
    """In the latest recorded forward."""


@dataclass(slots=True)
class Survey:
    """Everything at one moment; ``orphans`` get gradients and are in no optimizer."""

    walks: int = 0
    orphans: list[Fact] = field(default_factory=list)
    held: dict[int, Held] = field(default_factory=dict)
    shared: list[Shared] = field(default_factory=list)
    equal_rows: list[tuple[str, tuple[int, ...], Site | None]] = field(default_factory=list)
    ignored: list[tuple[Entry, str, Any, Any]] = field(default_factory=list)
    """(optimizer, attribute, its value, the param group's value): set beside the param groups."""


def survey(book: Parameters) -> Survey:
    """Look at all orphans and optimizers now (1 ms for a hundred modules)."""
    homes: dict[int, tuple[nn.Module, str]] = {}
    for birth in list(book.births.values()):
        module = birth.ref()
        if module is not None:
            for name, parameter in module.__dict__.get("_parameters", {}).items():
                if parameter is not None:
                    homes.setdefault(id(parameter), (module, name))
    names = book.names()
    parents: dict[int, nn.Module] = {}
    called: set[int] = set()
    for root in list(book.roots.values()):
        called |= set(root.called)
        module = root.ref()
        for one in module.modules() if module is not None else ():
            parents |= {id(child): one for child in one.children()}
    outside: dict[int, tuple[str, bool, Position | None]] = {}
    for root in list(book.roots.values()):
        module = root.ref()
        if module is not None:
            outside |= held_outside(module)

    def fact(parameter: torch.Tensor) -> Fact:
        home = homes.get(id(parameter))
        birth = book.birth_of(home[0]) if home is not None else None
        held, leaf, stored = outside.get(id(parameter), ("", True, None))
        outermost = home[0] if home is not None else None
        while outermost is not None and (above := parents.get(id(outermost))) is not None:
            if id(above) in called:
                break
            outermost = above
        whole = book.birth_of(outermost) if outermost is not None else None
        name = names.get(id(parameter)) or held or (home[1] if home is not None else "a tensor")
        return Fact(
            name,
            tuple(parameter.shape),
            birth.site if birth is not None else None,
            birth.number if birth is not None else 0,
            fresh=birth is not None and home is not None and book.is_fresh(home[0]),
            registered=id(parameter) in names,
            held=held if id(parameter) not in names else "",
            leaf=leaf,
            is_parameter=isinstance(parameter, nn.Parameter),
            key=id(parameter),
            called=home is not None and id(home[0]) in called,
            cut=home is not None and id(home[0]) in book.cut_off,
            constant=book.constants.get(id(parameter)),
            elements=parameter.numel(),
            stepped=(ref := book.stepped.get(id(parameter))) is not None and ref() is parameter,
            stored=stored,
            around=birth.around if birth is not None else None,
            unit=whole.site if whole is not None else None,
            instead=_instead(outermost, parents, book),
            left_out=_left_out(home[0], parents, book) if home is not None else None,
        )

    owners = book.optimizers.owners()
    found = Survey(walks=book.walks)
    for key, orphan in list(book.orphans.items()):
        leaf = orphan.ref()
        if leaf is None or key in owners or orphan.moved or orphan.walks < 2:
            continue
        one = fact(leaf)
        one.walks = orphan.walks
        found.orphans.append(one)
    found.orphans.sort(key=lambda one: (one.made_at, one.name))
    for entry in book.optimizers.live():
        held = found.held[entry.order] = Held(entry)
        for parameter in entry.parameters():
            held.total += 1
            if not parameter.requires_grad:
                held.frozen += 1
                if id(parameter) not in names:
                    held.replaced.append(fact(parameter))
            elif book.reached.get(id(parameter), 0) > entry.made_at:
                held.reached += 1
            elif parameter.grad is None and not entry.state_of(parameter):
                held.unreached.append(fact(parameter))
        found.ignored += _ignored(entry)
        _into_defaults(entry)
        if entry.steps >= 4:
            found.equal_rows += _equal_rows(entry, fact)
    for root in list(book.roots.values()):
        module = root.ref()
        if module is not None:
            found.shared += _shared(module, book)
    return found


def _instead(
    module: nn.Module | None, parents: dict[int, nn.Module], book: Parameters
) -> Site | None:
    """Where a sister of a module that was never called did its work as well as her own."""
    parent = parents.get(id(module))
    for sister in parent.children() if parent is not None and module is not None else ():
        ref, again = book.again.get(id(sister), (None, None))
        if (
            sister is module
            or ref is None
            or ref() is not sister
            or type(sister) is not type(module)
        ):
            continue
        shapes = [
            [one.shape for one in each.parameters()]
            for each in (sister, module)
            if each is not None
        ]
        if shapes[0] == shapes[1]:
            return again
    return None


def _left_out(
    module: nn.Module, parents: dict[int, nn.Module], book: Parameters
) -> tuple[Site, list[Position]] | None:
    """A module that ran in several forwards, in a function that goes on without the graph of its result."""
    ref, site, times = book.ran.get(id(module), (None, None, 0))
    above = parents.get(id(module))
    if ref is None or ref() is not module or site is None or times < 4 or above is None:
        return None
    cuts = cuts_of_result(site, type(above))
    return (site, cuts) if cuts else None


def held_outside(root: nn.Module) -> dict[int, tuple[str, bool, Position | None]]:
    """Leaves that hang in plain attributes, lists, tuples, dicts below ``root``.

    Returns:
        id -> (path, whether it is there itself and not only behind an operation, where the attribute is set).
    """
    found: dict[int, tuple[str, bool, Position | None]] = {}
    for prefix, module in root.named_modules():
        for name, value in vars(module).items():
            if name in _OWN_ATTRIBUTES:
                continue
            for path, inner in _plain(value, f"{prefix}.{name}".lstrip(".")):
                stored = attribute_set(type(module).__init__, name)
                if isinstance(inner, nn.Module):
                    for below, parameter in inner.named_parameters():
                        found.setdefault(id(parameter), (f"{path}.{below}", True, stored))
                elif inner.is_leaf:
                    found.setdefault(id(inner), (path, True, stored))
                else:
                    for leaf in graph.leaves(
                        inner.grad_fn, 32
                    ):  # a computed tensor: what it came from
                        found.setdefault(id(leaf), (path, False, stored))
    return found


_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))


def _plain(value: Any, path: str, depth: int = 3) -> list[tuple[str, Any]]:
    if isinstance(value, torch.Tensor):
        return [(path, value)] if value.requires_grad else []
    if depth < 3 and isinstance(value, nn.Module):
        return [(path, value)]
    if depth == 0:
        return []
    if isinstance(value, (list, tuple)):
        items = [(f"{path}[{index}]", one) for index, one in enumerate(value[:256])]
    elif isinstance(value, dict):
        items = [(f"{path}[{key!r}]", one) for key, one in list(value.items())[:256]]
    else:
        return []
    return [pair for name, one in items for pair in _plain(one, name, depth - 1)]


def _shared(root: nn.Module, book: Parameters) -> list[Shared]:
    found = []
    called = book.root_of(root).children_calls
    for path, module in root.named_modules():
        if isinstance(module, (nn.Sequential, nn.ModuleList)):
            birth = book.birth_of(module)
            made = birth.site if birth is not None else None
            counts: dict[int, int] = {}
            inner = list(module._modules.values())
            for one in inner:
                counts[id(one)] = counts.get(id(one), 0) + 1
            for one in {id(x): x for x in inner}.values():
                weights = list(one.parameters()) if one is not None else []
                if counts[id(one)] > 1 and weights:
                    found.append(
                        Shared(
                            path or type(module).__name__,
                            type(one).__name__,
                            counts[id(one)],
                            made,
                            sum(p.numel() for p in weights),
                            sum(p.numel() * p.element_size() for p in weights),
                            called.get(id(one), 0),
                        )
                    )
    return found


def _equal_rows(entry: Entry, fact: Any) -> list[tuple[str, tuple[int, ...], Site | None]]:
    found = []
    for parameter in entry.parameters()[:64]:
        if (
            parameter.dim() == 2
            and min(parameter.shape) >= 2
            and content.readable(parameter)
            and parameter.numel() <= content.BUDGET
        ):
            with content.quiet():
                equal = bool((parameter.detach()[:16] == parameter.detach()[:1]).all())
                if equal and not content.all_zero(parameter):
                    one = fact(parameter)
                    found.append((one.name, one.shape, one.constant or one.made))
    return found


def _ignored(entry: Entry) -> list[tuple[Entry, str, Any, Any]]:
    optimizer = entry.ref()
    if optimizer is None or not entry.of_torch:
        return []
    group = optimizer.param_groups[0]
    return [
        (entry, name, value, group[name])
        for name, value in vars(optimizer).items()
        if name in group
        and name != "params"
        and isinstance(value, (int, float))
        and value != group[name]
    ]


def _into_defaults(entry: Entry) -> None:
    """Was a setting written into the defaults, which only new groups read, and into no group?"""
    optimizer = entry.ref()
    if optimizer is None or not entry.of_torch or len(optimizer.param_groups) != entry.groups:
        return
    for name, before in entry.defaults.items():
        value = optimizer.defaults.get(name)
        used = [group.get(name) for group in optimizer.param_groups]
        if not isinstance(value, (int, float)) or value == before or value in used:
            continue
        seen = entry.tally.add("written into the defaults")
        seen.facts |= {"name": name, "value": value, "used": used[0]}
        if "at" not in seen.facts:
            codes = program_codes(user_frame(sys._getframe(1)))
            seen.facts["at"] = item_set_anywhere(codes, "defaults", name)
