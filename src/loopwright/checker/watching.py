"""Checking a piece of one's own program: ``with lw.watch() as seen:`` and ``@lw.check()``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeVar

from loopwright.checker.session import Session
from loopwright.errors import StateError
from loopwright.events import CheckRecord, Finding

P = ParamSpec("P")
R = TypeVar("R")


class watch:  # noqa: N801  a context manager, named as it is used
    """Observes the training inside a ``with`` block and holds what was found, worst first.

    Args:
        steps: stop observing after that many optimizer steps.

    Examples:
        >>> import torch, loopwright as lw
        >>> net = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> with lw.watch() as seen:
        ...     for _ in range(4):
        ...         net(torch.ones(3, 2)).sum().backward()
        ...         optimizer.step()
        >>> [finding.rule for finding in seen.findings]
        ['missing-zero-grad']
    """

    def __init__(self, *, steps: int | None = None):
        self.findings: list[Finding] = []
        self._steps = steps
        self._session: Session | None = None
        self._record = CheckRecord()

    def __enter__(self) -> Self:
        self._session = Session(steps=self._steps)
        self._session.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        assert self._session is not None
        self.findings = self._session.end(ended_well=kind is None)
        told = self._session.plain()
        self._record = CheckRecord(
            self.findings,
            events=told["events"],
            steps=told["steps"],
            processes=1,
            notes=told["notes"],
        )

    def __str__(self) -> str:
        from loopwright.report.findings import render

        return render(self._record)

    @property
    def mistakes(self) -> list[Finding]:
        """The findings that are errors or warnings."""
        return [one for one in self.findings if one.severity != "hint"]


def check(
    *, fail_on: Literal["error", "warning"] | None = None, steps: int | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function that trains: what it does is observed, and the findings go to stderr.

    Args:
        fail_on: raise when there is a finding of that severity or a worse one.
        steps: observe that many optimizer steps of each call.

    Raises:
        StateError: from the decorated function, after it has returned, if ``fail_on`` says so.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def observed(*args: P.args, **kwargs: P.kwargs) -> R:
            with watch(steps=steps) as seen:
                result = function(*args, **kwargs)
            sys.stderr.write(str(seen))
            grave = {"error": ("error",), "warning": ("error", "warning")}.get(fail_on or "", ())
            found = [one for one in seen.findings if one.severity in grave]
            if found:
                first = found[0]
                raise StateError(
                    f"{len(found)} mistakes in {function.__name__}, the first: {first.message}"
                    f"  [{first.rule}]",
                    slug="mistakes-found",
                    where=f"{first.place.file}:{first.place.line}",
                    hint=first.fix or None,
                )
            return result

        return observed

    return decorate
