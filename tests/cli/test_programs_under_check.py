"""Scripts under ``check`` and ``explain`` end as they do under Python: code, output, traceback, files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
USE_TORCH = {"torch, and no loop at all"}
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
QUICK = {
    "a syntax error",
    "its own arguments",
    "sys.exit with a number",
    "reads stdin",
    "child processes",
    "exit functions",
}


@dataclass(frozen=True)
class Row:
    """One script: what stands in the folder, what is typed after ``python``, and what it must come to."""

    kind: str
    files: dict[str, str]
    words: tuple[str, ...] = ("train.py",)
    code: int = 0
    says: str = ""
    """In its stderr."""
    prints: str = ""
    stdin: str = ""
    makes: tuple[str, ...] = field(default_factory=tuple)


def train(text: str) -> dict[str, str]:
    """One file, ``train.py``."""
    return {"train.py": text}


SPAWNS = """\
import multiprocessing

def work(number):
    print("in a child", number, flush=True)
    return 2 * number

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [3]))
"""
THREADS = """\
import threading
thread = threading.Thread(target=lambda: print("in a thread"))
thread.start()
thread.join()
"""
CHILDREN = """\
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout, end="")
sys.exit(subprocess.run([sys.executable, "-c", "raise SystemExit(5)"]).returncode)
"""
TABLE = [
    Row("a syntax error", train("for x in\n"), code=1, says="SyntaxError: invalid syntax"),
    Row("a tab too many", train("if 1:\n        a = 1\n\tb = 2\n"), code=1, says="TabError"),
    Row("not UTF-8", {"train.py": "print('\xe9')\n"}, code=1, says="SyntaxError"),
    Row("empty", train("")),
    Row("its own arguments", train("import sys; print(sys.argv)"), ("train.py", "--json", "-x", "--", "a b"),
        prints="['train.py', '--json', '-x', '--', 'a b']"),
    Row("a relative path", train("open('data.txt').read(); open('out.txt', 'w').close()") | {"data.txt": "x"},
        makes=("out.txt",)),
    Row("a file that is not there", train("open('none.txt')"), code=1,
        says="No such file or directory: 'none.txt'"),
    Row("its own imports", train("import own; print(own.HERE)") | {"own.py": "HERE = 'mine'"}, prints="mine"),
    Row("an import that is not there", train("import none_of_these"), code=1,
        says="No module named 'none_of_these'"),
    Row("in a folder", {"below/train.py": "import near; print(near.X)", "below/near.py": "X = 3"},
        ("below/train.py",), prints="3"),
    Row("sys.exit with a number", train("import sys; sys.exit(7)"), code=7),
    Row("sys.exit with a sentence", train("import sys; sys.exit('no data')"), code=1, says="no data"),
    Row("an exception", train("def f():\n    raise KeyError('mine')\nf()\n"), code=1,
        says="KeyError: 'mine'"),
    Row("killed by itself", train("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"), code=137),
    Row("os._exit", train("import os; os._exit(9)"), code=9),
    Row("reads stdin", train("print(input())"), stdin="typed\n", prints="typed"),
    Row("stdin at its end", train("input()"), code=1, says="EOFError"),
    Row("the program on stdin", {}, ("-",), stdin="print('from stdin')", prints="from stdin"),
    Row("exit functions", train("import atexit; atexit.register(print, 'at exit'); print('end')"),
        prints="end\nat exit"),
    Row("a failing exit function", train("import atexit; atexit.register(lambda: 1 / 0)"),
        says="ZeroDivisionError"),
    Row("threads", train(THREADS), prints="in a thread"),
    Row("child processes", train(CHILDREN), code=5, prints="42"),
    Row("multiprocessing", train(SPAWNS), prints="in a child 3\n[6]"),
    Row("a path with other letters", {"größe 🙂/träin.py": "print('ünïcode')"}, ("größe 🙂/träin.py",),
        prints="ünïcode"),
    Row("a module",
        {"pack/__init__.py": "", "pack/run.py": "from . import __name__ as n; print(n, __package__)"},
        ("-m", "pack.run"), prints="pack pack"),
    Row("a module that is not there", {}, ("-m", "pack.none"), code=1, says="No module named"),
    Row("torch, and no loop at all", train("import torch; print(torch.ones(2).sum().item())"), prints="2.0"),
]  # fmt: skip


def outcome(command, folder, stdin):
    """Exit code, output, error and the files that are there then."""
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False,
                          timeout=120, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return done.returncode % 256, done.stdout, done.stderr, files


def rows(quick):
    """The table, the quick ones of it unmarked."""
    return [
        pytest.param(row, id=row.kind, marks=[] if row.kind in quick else [pytest.mark.long])
        for row in TABLE
    ]


def both(row, tmp_path):
    """Two folders with the row's files."""
    folders = []
    for name in ("plain", "checked"):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        for file, text in row.files.items():
            path = folders[-1] / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="latin-1" if row.kind == "not UTF-8" else "utf-8")
    return folders


@pytest.mark.parametrize("row", rows(QUICK))
def test_as_under_python(row, run_cli, tmp_path):
    """Code, output, files and the traceback are Python's; one line of ours comes last."""
    folders = both(row, tmp_path)
    rc, out, err, files = outcome([sys.executable, *row.words], folders[0], row.stdin)
    done = run_cli("check", *row.words, cwd=folders[1], stdin=row.stdin,
                   env={"PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
    code = 137 if rc == 256 - 9 else rc
    assert (code, done.rc) == (row.code, row.code), done.err
    assert row.prints in out
    assert row.says in err
    assert done.out == out
    after = sorted(str(p.relative_to(folders[1])) for p in folders[1].rglob("*") if p.is_file())
    assert after == files
    assert set(row.makes) <= set(after)
    *theirs, last = done.err.splitlines()
    assert last.startswith("loopwright check: nothing found; 0 steps"), done.err
    theirs = [line for line in theirs if not line.startswith("note: no process of the program")]
    assert alike(theirs) == alike(err.splitlines())


def alike(lines):
    """Lines without addresses and with one folder's name."""
    return [ADDRESS.sub("", line.replace("/checked/", "/plain/")) for line in lines]


@pytest.mark.parametrize("row", rows({"a syntax error", "its own arguments", "reads stdin"}))
def test_explained_as_under_python(row, run_cli, tmp_path):
    """The same under explain; where nothing was to be explained, it says so and ends with 2."""
    folders = both(row, tmp_path)
    _, out, err, files = outcome([sys.executable, *row.words], folders[0], row.stdin)
    done = run_cli("explain", "--html", "none", *row.words, cwd=folders[1], stdin=row.stdin,
                   env=NO_BYTECODE)  # fmt: skip
    after = sorted(str(p.relative_to(folders[1])) for p in folders[1].rglob("*") if p.is_file())
    assert after == files
    assert done.out.startswith(out)
    theirs, ours = done.err.splitlines(), done.out.removeprefix(out)
    if row.code == 0 and row.kind not in USE_TORCH:
        *theirs, last, hint = theirs
        assert last.startswith("error: no process of the program imported torch")
        assert hint == "hint: is this the script that trains?"
        assert (done.rc, ours) == (2, "")
    else:
        assert done.rc == row.code, done.err
        assert (ours != "") == (row.kind in USE_TORCH)
    assert alike(theirs) == alike(err.splitlines())
