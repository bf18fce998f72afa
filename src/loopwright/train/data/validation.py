"""The data that a run validates on, told apart by the line that asks for it: other data is refused.

A value measured on one data set must not be compared with one measured on another. Only what was the
same at least twice is held to be the same always: a program may evaluate on a new sample each time, or on
several data sets from one line.
"""

from __future__ import annotations

import zlib
from types import FrameType
from typing import Any
from weakref import ReferenceType, ref

from loopwright.train.data.fingerprint import comparable, describe, likely_cause
from loopwright.train.data.source import Source
from loopwright.train.state import identity


class ValidationData:
    """What each line of the program has evaluated on."""

    def __init__(self) -> None:
        self._known: dict[
            str, dict[str, Any]
        ] = {}  # by line: facts, how often, whether always the same
        self._saved: dict[str, dict[str, Any]] = {}  # an earlier process's, until the line is met
        self._loaders: dict[str, ReferenceType[Any]] = {}

    def note(self, frame: FrameType, source: Source, folder: str, allowed: tuple[str, ...]) -> None:
        """Note one evaluation, before it begins.

        Args:
            frame: the user's, which asked for it.
            source: what it evaluates on.
            folder: for the message.
            allowed: names of facts that may differ.

        Raises:
            CheckpointError: an earlier process has evaluated on other data here.
        """
        line = _key(frame)
        last = self._loaders.get(line)
        known = self._known.get(line)
        if known is not None and last is not None and last() is source.given:
            known["times"] += 1
            return
        try:
            self._loaders[line] = ref(source.given)
        except TypeError:  # a list
            return
        facts = describe(source)
        saved = self._saved.pop(line, None)
        if saved is not None:
            self._compare(saved, facts, folder, allowed)
            known = self._known[line] = saved
        if known is None:
            self._known[line] = {"facts": facts, "times": 1, "same": True}
            return
        known["times"] += 1
        then, now = comparable(known["facts"], facts)
        known["same"] = known["same"] and then == now

    def _compare(
        self, saved: dict[str, Any], facts: dict[str, Any], folder: str, allowed: tuple[str, ...]
    ) -> None:
        if saved["times"] < 2 or not saved["same"]:
            return
        then, now = comparable(saved["facts"], facts)
        identity.refuse_if_different(
            {f"loader {k}": v for k, v in then.items()},
            {f"loader {k}": v for k, v in now.items()},
            folder, allowed, what="holds a run that was validated on other data",
            hint=likely_cause(then, now),
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of each line."""
        return {line: dict(known) for line, known in {**self._saved, **self._known}.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what an earlier process has noted."""
        self._known = {}
        self._loaders = {}
        self._saved = {line: dict(known) for line, known in state.items()}


def _key(frame: FrameType) -> str:
    """A place in the program that is another one as soon as its function is edited."""
    code = frame.f_code
    return f"{code.co_qualname}:{frame.f_lasti}:{zlib.crc32(code.co_code):08x}"
