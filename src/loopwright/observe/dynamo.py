"""Dynamo learns torch by its originals, whenever it comes.

Its tables go by identity, and are made once: of the methods of ``torch.Tensor`` while it is imported, of
these and of torch's functions by name when it compiles for the first time, which may be in the middle
of an observation. A hook that stood at one of the names then would be in the tables in place of the
original, which Dynamo would not know, also after the observation. So while a table is made the hooks
are lifted.

Dynamo is never imported for this: whether it comes is the program's affair, and a finder that finds
nothing itself hears of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from loopwright.observe.swap import CodeSwap

RULES = "torch._dynamo.trace_rules"
MAKERS = ("get_tensor_method", "get_torch_obj_rule_map")
"""Functions of ``RULES``, each of which makes a table and keeps it."""
AT_IMPORT = "torch._dynamo.variables.tensor"
"""Copies what ``torch.Tensor`` consists of when it is imported."""

Lifted = Callable[[], AbstractContextManager[None]]


class Originals:
    """A patch: as long as it is in, Dynamo's tables are made under ``lifted()``."""

    def __init__(self, lifted: Lifted):
        self.lifted = lifted
        self.swaps: list[CodeSwap] = []
        if RULES in sys.modules:
            self._swap(sys.modules[RULES])
        sys.meta_path.insert(0, self)

    def restore(self) -> None:
        """Let tables be made as they are."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for swap in self.swaps:
            swap.restore()
        self.swaps = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """What the ordinary finder finds, its loading watched; of any other module nothing."""
        if name not in (RULES, AT_IMPORT):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader, load = spec.loader, spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module  # the instance's attribute, in front of its class's
                with self.lifted():
                    load(module)
                if name == RULES and self in sys.meta_path:
                    self._swap(module)

            loader.exec_module = exec_module
        return spec

    def _swap(self, rules: ModuleType) -> None:
        for maker in MAKERS:
            if hasattr(rules, maker):
                self.swaps.append(CodeSwap(getattr(rules, maker), self._hook))

    def _hook(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any, **kwargs: Any) -> Any:
            with self.lifted():
                return original(*args, **kwargs)

        return hook
