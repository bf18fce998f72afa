"""Programs run by forking one warmed process that has imported torch: 15 ms each instead of 2 s.

``run_program(["train.py", "--fast"], cwd=...)`` behaves like ``python train.py --fast`` in a process of
its own (own session, own working folder, own environment, its exit functions run), and
``run_cli("train", "digits")`` like ``python -m loopwright train digits``. ``start_program`` gives the
running program, for tests that send signals or that want two at once.

What a fork can't show (start-up, which modules are imported, ``PYTHONHASHSEED``, ``python -X``) needs a
true ``subprocess``: see ``tests/cli/test_python_m.py``. The same holds for what a program starts in turn:
with ``warm_children=True`` its own ``subprocess`` starts of this interpreter are forks too, which save 3 s
of torch's import each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"
LIMIT_S = 120.0
RUNPY = "<frozen runpy>"
HOOKS = [sys.excepthook, warnings.showwarning]
left: list = []
"""Streams of a program whose fork has its own: what they still hold is not the fork's to write."""


class Result(NamedTuple):
    """How a program ended: exit code (``-n`` for signal n, as in subprocess) and what it printed."""

    rc: int
    out: str
    err: str


class Program:
    """One running program; ``wait()`` gives its Result."""

    def __init__(self, server: Server, pid: int, folder: Path):
        self.pid = pid
        self._server = server
        self._folder = folder

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return (self._folder / "out").read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has printed to stderr so far."""
        return (self._folder / "err").read_text(errors="replace")

    def running(self) -> bool:
        """True while it has not ended."""
        return not self._server.ended(self.pid, 0.0)

    def send_signal(self, number: int) -> None:
        """Send a signal to the program alone (not to its children)."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = LIMIT_S) -> Result:
        """Its Result; the whole process group is killed and TimeoutError raised when time is up."""
        if not self._server.ended(self.pid, timeout):
            os.killpg(self.pid, signal.SIGKILL)
            self._server.ended(self.pid, 10.0)
            raise TimeoutError(
                f"no end after {timeout} s\n--- out\n{self.out}\n--- err\n{self.err}"
            )
        return Result(self._server.codes[self.pid], self.out, self.err)


class Server:
    """The warmed process and the line to it.

    Args:
        folder: where programs' output goes.
        env: added to the environment of the warmed process itself (``LD_PRELOAD``), not of programs.
    """

    def __init__(self, folder: Path, env: dict[str, str] | None = None):
        self.codes: dict[int, int] = {}
        self._folder = folder
        self._count = 0
        # By this name its frames, which stand below a program's, are an installed package's to the observer.
        script = folder / "site-packages" / Path(__file__).name
        script.parent.mkdir()
        script.symlink_to(__file__)
        self._line, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "OMP_NUM_THREADS": "1",
            **(env or {}),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._unread = b""

    def start(
        self,
        argv: Sequence[str | os.PathLike[str]],
        cwd: str | os.PathLike[str] | None = None,
        env: dict[str, str | None] | None = None,
        stdin: str = "",
        *,
        warm_children: bool = False,
    ) -> Program:
        """Start ``python ARGV``; ``env`` is added to a plain environment (None removes a name)."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir(parents=True)
        for name, text in (("in", stdin), ("out", ""), ("err", "")):
            (folder / name).write_text(text)
        plain = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100", "PYTHONPATH": str(SOURCE)}
        merged = {**os.environ, **plain, **(env or {})}
        request = {
            "argv": [os.fspath(part) for part in argv],
            "cwd": os.fspath(cwd or folder),
            "env": {name: value for name, value in merged.items() if value is not None},
            "folder": str(folder),
            "warm_children": warm_children,
        }
        self._line.sendall(json.dumps(request).encode() + b"\n")
        while "pid" not in (answer := self._answer(None)):
            self._note(answer)
        self.codes.pop(answer["pid"], None)  # of an earlier program: numbers come again
        return Program(self, answer["pid"], folder)

    def ended(self, pid: int, timeout: float) -> bool:
        """True when the program has ended within ``timeout`` seconds; its code is in ``codes``."""
        end = time.monotonic() + timeout
        while pid not in self.codes:
            try:
                self._note(self._answer(max(0.001, end - time.monotonic())))
            except TimeoutError:
                return False
        return True

    def _answer(self, timeout: float | None) -> dict[str, int]:
        """Return the next line from the warmed process; several may have come at once."""
        self._line.settimeout(timeout)
        while b"\n" not in self._unread:
            piece = self._line.recv(1 << 16)
            if not piece:
                raise RuntimeError("the warmed process has gone")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def _note(self, answer: dict[str, int]) -> None:
        self.codes[answer["ended"]] = answer["code"]

    def close(self) -> None:
        """End the warmed process."""
        self._line.close()
        self._process.wait(120)


@pytest.fixture(scope="session")
def program_server() -> Iterator[Server]:
    """The warmed process of this test session."""
    folder = Path(tempfile.mkdtemp(prefix="forked-"))
    server = Server(folder)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start_program(program_server: Server) -> Callable[..., Program]:
    """``start_program(argv, cwd=, env=, stdin=)``: a running Program."""
    return program_server.start


@pytest.fixture(scope="session")
def run_program(program_server: Server) -> Callable[..., Result]:
    """``run_program(argv, cwd=, env=, stdin=, timeout=)``: like ``python ARGV``, run to its end."""

    def run(argv: Sequence[str | os.PathLike[str]], *, timeout: float = LIMIT_S, **rest) -> Result:
        return program_server.start(argv, **rest).wait(timeout)

    return run


@pytest.fixture
def run_cli(run_program: Callable[..., Result]) -> Callable[..., Result]:
    """``run_cli("train", "digits", cwd=)``: like ``python -m loopwright train digits``."""

    def run(*words: str | os.PathLike[str], **rest) -> Result:
        return run_program(["-m", "loopwright", *words], **rest)

    return run


def _serve(line: socket.socket) -> dict | None:
    """Fork at each request and report each end; None at the end, the request inside a fork."""
    import select

    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pending = b""
    while True:
        ready, _, _ = select.select([line, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _report_ended(line)
        if line in ready:
            piece = line.recv(1 << 16)
            if not piece:
                return None
            *requests, pending = (pending + piece).split(b"\n")
            for request in requests:
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(wake_read)
                    os.close(wake_write)
                    line.close()
                    return json.loads(request)
                line.sendall(json.dumps({"pid": pid}).encode() + b"\n")


def _report_ended(line: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        line.sendall(json.dumps({"ended": pid, "code": code}).encode() + b"\n")


def _become(request: dict) -> None:
    """Turn this fork into ``python ARGV``: session, files, folder, environment; then run it."""
    os.setsid()
    folder = Path(request["folder"])
    for number, name, mode in (
        (0, "in", os.O_RDONLY),
        (1, "out", os.O_WRONLY),
        (2, "err", os.O_WRONLY),
    ):
        opened = os.open(folder / name, mode | (os.O_APPEND if mode == os.O_WRONLY else 0))
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(request["cwd"])
    if request["warm_children"]:
        subprocess.Popen = _WarmChild  # type: ignore[misc]
    _run(request["argv"], request["env"])


def _run(argv: list[str], env: dict[str, str], run_file: Callable = runpy.run_path) -> None:
    """Run ``python ARGV`` with this environment in this process."""
    import torch

    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(int(env.get("OMP_NUM_THREADS") or 1))
    folders = [
        os.path.abspath(path) for path in env.get("PYTHONPATH", "").split(os.pathsep) if path
    ]
    sys.path[1:1] = [path for path in folders if path not in sys.path]
    if any(Path(path, "sitecustomize.py").exists() for path in folders):
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.modules.pop("__main__", None)
    if argv[0] == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = [argv[1], *argv[2:]]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    elif argv[0] == "-c":
        sys.path[0] = ""
        sys.argv = ["-c", *argv[2:]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(argv[1], "<string>", "exec", dont_inherit=True), module.__dict__)
    else:
        sys.path[0] = str(Path(argv[0]).resolve().parent)
        sys.argv = list(argv)
        run_file(argv[0], run_name="__main__")


def _run_file(path: str, run_name: str) -> None:
    """Run a file by its full name, as Python itself does, and unlike runpy leave ``sys.argv[0]`` as given."""
    full = os.path.abspath(path)
    module = sys.modules[run_name] = types.ModuleType(run_name)
    module.__file__ = full
    exec(compile(Path(full).read_bytes(), full, "exec", dont_inherit=True), module.__dict__)


class _WarmChild(subprocess.Popen):
    """A process in which ``python FILE``, ``-m MODULE`` or ``-c CODE`` is run by a fork; any other as it is.

    The fork runs the program at the moment at which it would become another one, so streams, folder and
    session are as ``subprocess`` has made them.
    """

    def __init__(self, args, *rest, **given):
        words = [args] if isinstance(args, (str, bytes, os.PathLike)) else [*map(os.fsdecode, args)]
        first, *words = words
        flags = subprocess._args_from_interpreter_flags()
        words = words[len(flags) :] if words[: len(flags)] == flags else words
        runs = words[:1] in (["-m"], ["-c"]) or (words and not words[0].startswith("-"))
        if first == sys.executable and runs:
            env = dict(given["env"] if given.get("env") is not None else os.environ)
            kept = tuple(given.get("pass_fds", ()))
            given["preexec_fn"] = partial(_end_as, partial(_run_child, words, env, kept))
        super().__init__(args, *rest, **given)


def _run_child(argv: list[str], env: dict[str, str], kept: Sequence[int]) -> None:
    """Run ``python ARGV`` in a fork of a program, without what that program has made of the process."""
    import atexit
    import logging
    import multiprocessing.util
    import weakref

    import torch.utils.data

    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    atexit._clear()
    for function in (
        logging.shutdown,
        multiprocessing.util._exit_function,
        torch.utils.data._utils._set_python_exit_flag,
    ):
        atexit.register(function)
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False
    sys.excepthook, warnings.showwarning = HOOKS
    for number in map(int, os.listdir("/dev/fd")):
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):  # of the listing itself
                os.close(number)  # one of them tells subprocess that the program runs now
    left.extend((sys.stdin, sys.stdout, sys.stderr))
    # As Python opens them; the numbers stay open when these go.
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    sys.orig_argv = [sys.executable, *argv]
    gc.enable()  # subprocess has turned it off for the moment
    _run(argv, env, _run_file)


def _end_as(run: Callable[[], None]) -> None:
    """Run the program and end as Python would, except for taking 200 MB of modules apart (1 s)."""
    import atexit
    import threading

    code = 0
    try:
        run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code = 1
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename in (__file__, runpy.__file__, RUNPY):
            trace = trace.tb_next
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        if isinstance(error, KeyboardInterrupt):
            code = -signal.SIGINT
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


def _warm() -> None:
    """Import what the programs import, ours included: compiling it again costs 0.5 s a program."""
    import io
    import pkgutil

    import loopwright
    from loopwright.cli.main import main
    from loopwright.report import html

    for name in ("numpy", "safetensors.torch", "torch._dynamo", "torch.utils.data", "tqdm"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(loopwright.__path__, "loopwright."):
        if not module.name.endswith("__main__"):
            # A module that can't be imported, or needs an extra, fails in the program that wants it.
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for words in (["--help"], ["recipes"], ["unknown"]):
            main(words)
    templates = html.environment()
    for name in templates.list_templates(["jinja"]):
        templates.get_template(name)


def _settle() -> None:
    """Leave what is here out of what each fork would go through again, and copy page by page.

    A collection costs a fork 0.33 s otherwise, and the finalizers of torch's modules 0.06 s at its end.
    """
    import weakref

    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False
    HOOKS[:] = sys.excepthook, warnings.showwarning
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    _warm()
    _settle()
    received = _serve(socket.socket(fileno=int(sys.argv[1])))
    if received is not None:
        _end_as(partial(_become, received))
