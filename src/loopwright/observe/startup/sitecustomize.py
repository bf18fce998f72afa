"""Begins the observation in a Python process that was started with our environment.

Python imports this by its name before a program begins. Its folder goes from the path, and a
``sitecustomize`` that the installation has of its own runs and takes its place.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import PathFinder


def _run_the_next() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if not path or os.path.abspath(path) != here]
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


def _begin() -> None:
    package = os.environ.get("LOOPWRIGHT_PACKAGE")
    if package is None or "LOOPWRIGHT_START" not in os.environ:
        return
    sys.path.insert(0, package)
    try:
        from loopwright.observe.process import begin
    finally:
        sys.path.remove(package)
    begin()


_run_the_next()
_begin()
