"""Starts a program so that it is observed: a process of its own, exactly as Python would run it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from loopwright.errors import UsageError
from loopwright.observe.process import environment


def command_of(words: Sequence[str], *, as_given: bool = False, verb: str = "check") -> list[str]:
    """The command line that runs a program.

    Args:
        words: ``script.py args``, ``-m module args``, ``-c code args`` or ``- args`` (from stdin).
        as_given: ``words`` is a command of its own (a console entry point).
        verb: of ours, that was given the program.

    Raises:
        UsageError: there is no such script or command.
    """
    if as_given:
        if shutil.which(words[0]) is None:
            raise UsageError(
                f"there is no command {words[0]!r}", slug="no-program", where="command line"
            )
        return list(words)
    first = words[0]
    if first not in ("-m", "-c", "-"):
        if os.path.isdir(first) and not os.path.exists(os.path.join(first, "__main__.py")):
            raise UsageError(
                f"{first} is a folder without a __main__.py",
                slug="no-program",
                where="command line",
            )
        if not os.path.exists(first):
            raise UsageError(
                f"there is no file {first}",
                slug="no-program",
                where="command line",
                hint=f"for a command: loopwright {verb} -- {' '.join(words)}",
            )
    elif first != "-" and len(words) < 2:
        raise UsageError(f"{first} needs a value", slug="no-program", where="command line")
    return [sys.executable, *subprocess._args_from_interpreter_flags(), *words]  # type: ignore[attr-defined]


def run(
    command: Sequence[str],
    start: str,
    folder: str,
    *,
    quiet_stdout: bool = False,
    silent: bool = False,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Run a command observed and return its exit code, -n for signal n.

    Args:
        command: what to run.
        start: ``module:function`` that begins the observation in each of its Python processes.
        folder: where those leave what they found.
        quiet_stdout: its descriptor 1, and that of its children, goes to stderr.
        silent: nothing that it prints is shown.
        variables: further environment variables.
    """
    out = sys.stderr.fileno() if quiet_stdout else None
    # Ctrl-C reaches the program too, and is for it to answer. A handler, because what is ignored here is
    # ignored in the program as well; where that is so already (nohup), it stays so.
    interrupts = signal.getsignal(signal.SIGINT)
    if interrupts is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _wait_on)
    try:
        return _run(
            list(command), environment(os.environ, start, folder, **(variables or {})), out, silent
        )
    finally:
        signal.signal(signal.SIGINT, interrupts)


def _wait_on(_number: int, _frame: object) -> None:
    """What this process does about an interrupt."""


def _run(command: list[str], variables: dict[str, str], out: int | None, silent: bool) -> int:
    program = subprocess.Popen(
        command,
        env=variables,
        stdout=subprocess.DEVNULL if silent else out,
        stderr=subprocess.DEVNULL if silent else None,
    )
    handed = {number: signal.signal(number, _hand_on(program)) for number in _SIGNALS}
    try:
        return program.wait()
    finally:
        for number, before in handed.items():
            signal.signal(number, before)


_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def _hand_on(program: subprocess.Popen[bytes]):  # noqa: ANN202  a signal handler
    def handler(number: int, _frame: object) -> None:
        program.send_signal(number)

    return handler
