"""Set up everything in .venv, then do what is asked. Needs Python 3.11 or newer and this clone, nothing else.

    python3 start.py train digits    set up what training needs, then `loopwright train digits`
    python3 start.py test            set up what development needs, then run the tests
    python3 start.py test --long     all tests, the long ones too; further words go to pytest
    python3 start.py lint            ruff, codespell, pyrefly
    python3 start.py docs            build the documentation into site/
    python3 start.py kills           kill whole training programs, run them again, compare their bits
    python3 start.py kills --ranks 100   the same with one rank, under DDP, FSDP2 and replicas of shards
    python3 start.py mutants         make mistakes in a copy of the engine: the fault tests must fail
    python3 start.py setup           set up for development, nothing else

Any other words go to `loopwright` as they are. What has been set up is reused until pyproject.toml,
constraints.txt, this file or the interpreter changes. Only the standard library is used here.

torch comes from pip's configured index. On Linux the plain build brings several gigabytes of CUDA; for
the CPU build set PIP_EXTRA_INDEX_URL to the CPU index that PyTorch's "Get Started" page shows.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
WINDOWS = os.name == "nt"
BIN = VENV / ("Scripts" if WINDOWS else "bin")
PYTHON = BIN / ("python.exe" if WINDOWS else "python")
OLDEST = (3, 11)
NEWER = ("python3.13", "python3.12", "python3.11")


def main(words):
    """Run one task; returns its exit code."""
    if sys.version_info < OLDEST:
        newer = [name for name in NEWER if shutil.which(name)]
        return fail(
            "Python %d.%d is too old: Loopwright needs %d.%d or newer."
            % (sys.version_info[:2] + OLDEST),
            " ".join([(newer or ["install a newer one, then: python3"])[0], "start.py", *words]),
        )
    if not words or words[0] in ("-h", "--help", "help"):
        print(__doc__)
        return 0
    task = TASKS.get(words[0])
    try:
        prepare("dev" if task else "base")
    except SetupError as error:
        return fail(*error.args)
    if task:
        return task(words[1:])
    return become([BIN / "loopwright", *words])


def test(words):
    """Run pytest; ``--long`` includes the tests that are marked long."""
    command = [PYTHON, "-m", "pytest"]
    if "--long" in words:
        words = [word for word in words if word != "--long"]
        command += ["-m", ""]
    if not any(word == "--pdb" or word.startswith("-n") for word in words):
        command += ["-n", "auto", "--dist", "worksteal"]
    return become([*command, *words], cwd=ROOT, OMP_NUM_THREADS="1")


def lint(words):
    """Run every static check; the exit code is that of the worst."""
    commands = (
        ["ruff", "check", *words],
        ["ruff", "format", "--check"],
        ["codespell"],
        ["pyrefly", "check", "--python-interpreter-path", PYTHON],
    )
    return max([call([BIN / name, *rest]) for name, *rest in commands])


def docs(words):
    """Build the documentation; a broken link is an error."""
    command = [PYTHON, "-m", "mkdocs", *(words or ["build", "--strict"])]
    return become(command, cwd=ROOT, NO_MKDOCS_2_WARNING="1")


def kills(words):
    """Kill training programs at random moments; ``--count 500 --seed 0``; or ``--ranks 100``."""
    if (
        words[:1] == ["--ranks"] and words[1:2]
    ):  # a third of them each: DDP, FSDP2, replicas of shards on four ranks
        tests = [PYTHON, "-m", "pytest", "-q", "-s", "-m", "", "-k", "random_kills"]
        each = str(max(1, int(words[1]) // 3))
        return become(
            [*tests, "tests/parallel/test_sharded.py"],
            cwd=ROOT,
            OMP_NUM_THREADS="1",
            RANK_KILLS=each,
        )
    return become([PYTHON, "tests/faults/kills.py", *words], cwd=ROOT, OMP_NUM_THREADS="1")


def mutants(words):
    """See that the fault tests catch mistakes in the engine; ``--only WORDS`` of their names."""
    return become([PYTHON, "tests/faults/mutants.py", *words], cwd=ROOT, OMP_NUM_THREADS="1")


def setup(words):
    """Say where everything is."""
    print("ready: %s" % PYTHON)
    return 0


TASKS = {
    "test": test,
    "lint": lint,
    "docs": docs,
    "kills": kills,
    "mutants": mutants,
    "setup": setup,
}


class SetupError(Exception):
    """What went wrong in the set-up, and what to do about it."""


def prepare(kind):
    """Make .venv hold ``kind`` ("base" or "dev"); returns at once where it does already."""
    stamp = fingerprint()
    if is_ready(kind, stamp):
        return
    VENV.mkdir(exist_ok=True)
    with one_at_a_time():
        if is_ready(kind, stamp):  # by the one that we waited for
            return
        start = time.monotonic()
        for other in ("base", "dev"):
            stamp_file(other).unlink(missing_ok=True)
        make_venv()
        say("installing torch (a large download the first time)")
        pip("torch==" + pinned("torch"))
        say("installing loopwright" + (" and what its tests need" if kind == "dev" else ""))
        pip("-e", "%s%s" % (ROOT, "[dev]" if kind == "dev" else ""))
        stamp_file(kind).write_text(stamp)
        say("ready in %.0f s" % (time.monotonic() - start))


def is_ready(kind, stamp):
    """True when ``kind`` (or more) was set up from the same files by the same interpreter."""
    kinds = ("base", "dev") if kind == "base" else ("dev",)
    files = [stamp_file(each) for each in kinds]
    return PYTHON.exists() and any(each.is_file() and each.read_text() == stamp for each in files)


def stamp_file(kind):
    """The file that says what ``kind`` was set up from."""
    return VENV / ("loopwright-%s.stamp" % kind)


def fingerprint():
    """A hash of all that the set-up depends on, the folder included (the install is an editable one)."""
    digest = hashlib.sha256(("%s\n%s\n%s" % (ROOT, sys.base_prefix, sys.version)).encode())
    for name in ("pyproject.toml", "constraints.txt", "start.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def make_venv():
    """Make the virtual environment, or make it anew where what is there does not work."""
    with contextlib.suppress(OSError):
        done = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)
        same = subprocess.run(
            [PYTHON, "-c", "import sys; print(sys.version)"], capture_output=True, check=False
        )
        if done.returncode == 0 and same.stdout.decode().strip() == sys.version.strip():
            return
    say("making .venv with Python %d.%d" % sys.version_info[:2])
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", VENV], check=False, capture_output=True
    )
    if made.returncode or not PYTHON.exists():
        raise SetupError(
            "this Python cannot make a virtual environment:\n"
            + (made.stdout + made.stderr).decode().strip(),
            "on Debian and Ubuntu: apt install python%d.%d-venv" % sys.version_info[:2],
        )


def pip(*words):
    """Install into .venv within the constraints; pip says itself what goes wrong."""
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install"]
    if not sys.stdout.isatty():
        command.append("--quiet")
    if call([*command, "-c", ROOT / "constraints.txt", *words], OMP_NUM_THREADS="1"):
        raise SetupError(
            "pip could not install %s: its own words are above." % words[-1],
            "without a network, or behind a proxy, tell pip (pip config); then run the same line again.",
        )


def pinned(name):
    """The version of ``name`` in constraints.txt."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith(name + "=="):
            return line.split("==")[1].split()[0]
    raise SetupError(
        "constraints.txt has no line %s==..." % name, "restore it: git checkout constraints.txt"
    )


@contextlib.contextmanager
def one_at_a_time():
    """Hold the set-up's lock, which ends with its process; a second set-up waits for the first."""
    with open(ROOT / ".venv.lock", "a+b") as file:
        if WINDOWS:
            import msvcrt

            file.seek(0)
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
                except OSError:  # LK_LOCK gives up after 10 s
                    say("waiting for another set-up of this folder")
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another set-up of this folder")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def call(command, cwd=ROOT, **environment):
    """Run a command to its end; returns its exit code."""
    sys.stdout.flush()
    return subprocess.call(
        [str(word) for word in command], cwd=str(cwd), env={**os.environ, **environment}
    )


def become(command, cwd=None, **environment):
    """Become the command, so that signals and the exit code are its own (a child on Windows)."""
    sys.stdout.flush()
    if WINDOWS:
        return call(command, cwd or os.getcwd(), **environment)
    if cwd:
        os.chdir(str(cwd))
    os.execve(str(command[0]), [str(word) for word in command], {**os.environ, **environment})


def say(text):
    """One line about the set-up, on stderr: stdout belongs to what is run."""
    print("start.py: " + text, file=sys.stderr, flush=True)


def fail(what, hint):
    """Say what is wrong and what to do; returns the exit code of a usage error."""
    print("error: %s\n  hint: %s" % (what, hint), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
