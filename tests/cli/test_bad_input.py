"""Bad input, as a table: what is typed, the exit code, and the last words on stderr.

Every row starts in a folder of its own with the files that it names, and must

* end with its exit code, and ``error: what (where)`` with at most one hint as the last thing on stderr,
* show no line of the library's or of an installed package's,
* leave every file that was there before as it was, and no run folder unless training had begun,
* end within the time of a watchdog, and leave no child process.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from bad_input import commands, data, folders, models, programs, recipes, runs
from bad_input.row import Row, recipe

KINDS: dict[str, list[Row]] = {
    kind: rows
    for module in (commands, recipes, data, models, folders, runs, programs)
    for kind, rows in module.KINDS.items()
}
TABLE = [(kind, row) for kind, rows in KINDS.items() for row in rows]
QUICK = 2
"""Rows of a kind that are always run; the others are long."""
CASES = [
    pytest.param(kind, row, id=f"{kind}-{row}", marks=[pytest.mark.long] if number >= QUICK else [])
    for kind, rows in KINDS.items()
    for number, row in enumerate(rows)
]
MOST_OF_A_KIND = 6
LEAST = 120
WATCHDOG_S = 120

COVERED = """
mistyped verbs; mistyped recipes; mistyped flags; recipe files that are none; broken settings files;
numbers out of range; numbers of the wrong type; nan, inf and numbers too large; devices that are not there;
precisions that are not there; folders that are files; folders that may not be written; folders in use;
another run's folder; a newer version's folder; checkpoints of another model or optimizer; truncated files;
flipped bits; pickles under our names; absurd sizes and names; symbolic links and pipes;
data that are empty; samples that do not fit together; data of the wrong type; data of the wrong shape;
labels out of range; data that are not finite; a sample that raises; workers that die;
data that cannot travel to workers; models that return no tensor; models with nothing to train;
losses that are not one number; losses that are not attached; losses that are not finite;
too little memory; disks that are full
"""


def test_the_table_is_large_and_even():
    """At least 120 distinct bad inputs, no more than six of a kind, and every kind that has to be there."""
    for kind, rows in KINDS.items():
        print(f"{len(rows)}  {kind}")
    print(f"{len(TABLE)} in {len(KINDS)} kinds")
    assert len(TABLE) >= LEAST
    assert {kind for kind, rows in KINDS.items() if not 1 <= len(rows) <= MOST_OF_A_KIND} == set()
    seen = [
        (row.words, dict(row.files), row.limits, row.holder, done(row.harm)) for _, row in TABLE
    ]
    assert len({repr(one) for one in seen}) == len(TABLE)
    wanted = {" ".join(kind.split()) for kind in COVERED.split(";")}
    assert wanted <= KINDS.keys()


def done(harm) -> tuple:
    """What tells one harm from another: the function, and what it was made with."""
    made = getattr(harm, "__closure__", None) or ()
    return getattr(harm, "__qualname__", None), [cell.cell_contents for cell in made]


def contents(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder with what is in it, every link with where it leads, every folder."""
    seen: dict[str, bytes | str] = {}
    for place, below, files in os.walk(folder):
        for name in below + files:
            path = Path(place, name)
            shown = str(path.relative_to(folder))
            if path.is_symlink():
                seen[shown] = f"-> {path.readlink()}"
            elif path.is_fifo():
                seen[shown] = "a pipe"
            else:
                seen[shown] = "a folder" if path.is_dir() else path.read_bytes()
    return seen


@pytest.fixture(scope="session")
def trained_recipe(program_server, tmp_path_factory) -> Path:
    """A folder with a recipe and its finished run, for the rows that begin with one."""
    folder = tmp_path_factory.mktemp("trained_recipe")
    for name, text in recipe().items():
        (folder / name).write_text(text)
    # Seldom: which epoch ends get a checkpoint by default depends on the clock.
    seldom = ["--checkpoint-every", "1000"]
    words = ["-m", "loopwright", "train", "mine.py", "--out", "run", "--quiet", *seldom]
    rc, _, err = program_server.start(words, cwd=folder).wait()
    assert rc == 0, err
    return folder


LIMITED = """\
import os, resource, sys

limits, outside = os.environ["LIMITS"], os.path.realpath("outside")
if limits == "no root":
    import ctypes

    # Root may write where nobody may by CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2): given up here.
    libc = ctypes.CDLL(None)
    head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    libc.capget(head, sets)
    sets[0] &= ~6
    sets[1] &= ~6
    libc.capset(head, sets)
    if any(os.access(x, os.W_OK) for x in ("locked", "run") if os.path.exists(x)):
        sys.exit(77)
elif limits.startswith("files of"):
    size = int(limits.split()[2]) * (1 if "bytes" in limits else 1000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
elif limits == "audit":

    def look(event, arguments):
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class"):
            known = ("git", "uname")  # what run.json says of the machine
            if event != "subprocess.Popen" or str(arguments[1][0]) not in known:
                print("RAN", event, arguments[:1], file=sys.stderr)
        if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            refuses_links = (arguments[2] or 0) & os.O_NOFOLLOW
            if (path + "/").startswith(outside + "/") and not refuses_links:
                print("OPENED", path, file=sys.stderr)

    sys.addaudithook(look)
from loopwright.cli.main import main

sys.exit(main(sys.argv[1:]))
"""
HOLDER = """\
import sys, time
from loopwright.checkpoint import RunLock
lock = RunLock("run")
print("held", flush=True)
time.sleep(600)
"""


def session(pid: int) -> list[int]:
    """The processes of a program that are still there: it was given a session of its own."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if entry.name.isdigit() and fields[0] != "Z" and int(fields[3]) == pid:
            found.append(int(entry.name))
    return found


def test_what_watches_sees(start_program, tmp_path):
    """Control: code that runs, a file that is read outside, and a child that stays are all seen."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("SECRET")
    (tmp_path / "link").symlink_to(tmp_path / "outside" / "secret")
    faults = (
        "import pickle, subprocess\n"
        "open('link').read()\n"
        "pickle.loads(b'cos\\nsystem\\n(S\"true\"\\ntR.')\n"
        "subprocess.Popen(['sleep', '600'])\n"
    )
    text = LIMITED.partition("from loopwright")[0] + faults
    program = start_program(["-c", text], cwd=tmp_path, env={"LIMITS": "audit"})
    rc, _, err = program.wait(WATCHDOG_S)
    assert rc == 0, err
    assert f"OPENED {tmp_path}/outside/secret" in err
    assert "RAN pickle.find_class" in err
    assert "RAN os.system" in err
    assert "RAN subprocess.Popen" in err
    (child,) = session(program.pid)
    os.kill(child, 9)


@pytest.mark.parametrize(("kind", "row"), CASES)
def test_bad_input(kind, row, start_program, trained_recipe, tmp_path):
    """Each row ends with its code and its words, harms nothing and leaves nothing behind."""
    prepare(row, tmp_path, trained_recipe)
    holder = None
    if row.holder:
        holder = start_program(["-c", HOLDER], cwd=tmp_path)
        while "held" not in holder.out:
            assert holder.running(), holder.err
            time.sleep(0.01)
    before = contents(tmp_path)
    argv = ["-c", LIMITED] if row.limits else ["-m", "loopwright"]
    program = start_program(
        [*argv, *row.words.split()],
        cwd=tmp_path,
        env={"LIMITS": row.limits, "PYTHONWARNINGS": "ignore"},
    )
    rc, out, err = program.wait(WATCHDOG_S)
    if holder is not None:
        holder.send_signal(9)
        holder.wait()
    if row.limits == "no root" and rc == 77:
        pytest.skip("here nothing keeps this user from writing")
    assert rc == row.code, err
    check_words(row, err)
    check_folder(row, before, contents(tmp_path))
    assert "SECRET" not in out + err
    end = time.monotonic() + 30
    while left := session(program.pid):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def prepare(row: Row, folder: Path, trained_recipe: Path) -> None:
    """Put into the folder what the row begins with."""
    import shutil

    if row.run:
        shutil.copytree(trained_recipe, folder, dirs_exist_ok=True)
        asked = folder / "run" / "run.json"
        asked.write_text(asked.read_text().replace(str(trained_recipe), str(folder)))
    for name, content in row.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    if row.harm is not None:
        row.harm(folder)


def check_words(row: Row, err: str) -> None:
    """``error: what (where)``, at most one hint, and nothing of the library's above."""
    lines = err.replace(
        "\0", ""
    ).splitlines()  # torch's last words for a crashed worker end with one
    hint = lines.pop() if lines[-1].startswith("hint: ") else ""
    assert lines[-1].startswith("error: "), err
    assert not any(line.startswith(("error: ", "hint: ")) for line in lines[:-1]), err
    assert row.error in lines[-1]
    assert re.search(r" \([^()]+\)$", lines[-1]), f"no place in {lines[-1]}"
    assert row.hint in hint, err
    assert row.above in "\n".join(lines[:-1]), err
    for ours in ("loopwright/cli", "loopwright/train", "loopwright/checkpoint", "site-packages"):
        assert ours not in err
    assert "RAN" not in err
    assert "OPENED" not in err


def check_folder(row: Row, before: dict, after: dict) -> None:
    """What was there is as it was; what is new belongs to a run in which training had begun."""
    if row.run and row.trained:
        before = {name: x for name, x in before.items() if not name.startswith("run/")}
    changed = {name for name, content in before.items() if after.get(name) != content}
    assert changed <= {"run/.lock"} if row.holder else changed == set()
    new = {name for name in after.keys() - before.keys() if not name.startswith("run/")}
    assert new <= ({"run"} if row.trained is not False else set())
    if not row.run and row.trained is not None:
        assert ("run" in after) == row.trained
