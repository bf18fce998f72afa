"""``loopwright check``: the program as Python runs it, the findings in every form, the exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

FAULTY = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(8):
    x = torch.randn(4, 3)
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
"""
ENDING = """\
import atexit, os, sys
atexit.register(lambda: print("at exit"))
import neighbour
print(__name__, sys.argv, os.path.basename(sys.path[0]), neighbour.VALUE, sys.stdin.read())
import torch
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def check(run_cli, tmp_path):
    """``check(words, **files)`` writes files and runs ``loopwright check WORDS``.

    The program is a fork too, unless ``started=True`` asks for the interpreter's true start.
    """

    def run(*words, stdin="", started=False, **files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        return run_cli("check", *words, cwd=tmp_path, stdin=stdin, warm_children=not started)

    return run


def test_a_finding(check):
    """A mistake is shown with its line underlined, and the exit code is 1."""
    done = check("train.py", train=FAULTY, started=True)
    assert done.rc == 1
    assert "error[missing-zero-grad]: .grad of 2 of 2 parameters" in done.err
    assert "--> train.py:9:5" in done.err
    assert "9 |     opt.step()\n  |     ^^^^^^^^^^ 7 times" in done.err
    assert done.err.endswith("loopwright check: 1 error; 8 steps and 27 events observed\n")
    assert done.out == ""


def test_nothing_found(check):
    """A correct program ends with 0 and one line."""
    done = check(
        "train.py", train=FAULTY.replace("loss.backward", "opt.zero_grad(); loss.backward")
    )
    assert done.rc == 0
    assert done.err.startswith("loopwright check: nothing found; 8 steps")


def test_json_and_the_programs_own_output(check, tmp_path):
    """``--json`` has stdout to itself; the program's own stdout goes to stderr, its children's too."""
    text = FAULTY + 'print("from the program")\nimport os; os.system("echo from a child")\n'
    done = check("--json", "train.py", train=text)
    record = json.loads(done.out)
    (finding,) = record["findings"]
    assert (finding["rule"], finding["severity"], finding["file"]) == (
        "missing-zero-grad",
        "error",
        "train.py",
    )
    assert (finding["line"], finding["column"], finding["end_column"], finding["count"]) == (
        9,
        5,
        15,
        7,
    )
    assert {"message", "evidence", "fix", "why", "related"} <= set(finding)
    assert record["program"] == {
        "command": record["program"]["command"],
        "exit_code": 0,
        "exception": None,
    }
    assert record["observed"]["steps"] == 8
    assert "from the program" in done.err
    assert "from a child" in done.err
    check("--json=found.json", "train.py")
    assert json.loads((tmp_path / "found.json").read_text())["findings"] == record["findings"]


def test_a_failing_program(check):
    """The program's own failure is passed on, with its traceback and the findings so far."""
    done = check("--json", "train.py", train=FAULTY + "raise ValueError('mine')\n")
    assert done.rc == 1
    record = json.loads(done.out)
    assert record["program"]["exception"] == "ValueError"
    assert record["program"]["exit_code"] == 1
    assert [one["rule"] for one in record["findings"]] == ["missing-zero-grad"]
    assert "ValueError: mine" in done.err


def test_runs_as_python_would(check, tmp_path):
    """Name, arguments, path, stdin, own imports, exit functions and exit code are those of python."""
    files = {"program": ENDING, "neighbour": "VALUE = 7\n"}
    done = check("program.py", "3", "--own", **files, stdin="typed", started=True)
    plain = subprocess.run(
        [sys.executable, "program.py", "3", "--own"],
        cwd=tmp_path,
        input="typed",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.rc, done.out) == (plain.returncode, plain.stdout) == (3, done.out)
    assert "at exit" in done.out


def test_modules_and_code(check):
    """``-m``, ``-c`` and a command after ``--`` are run too."""
    assert check("-m", "train", train=FAULTY).rc == 1
    assert check("-c", FAULTY).rc == 1
    assert check("--", sys.executable, "train.py", started=True).rc == 1


def test_children_are_observed(check):
    """What a child process trains is found, at its line."""
    text = (
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {FAULTY!r}], check=True)\n"
    )
    done = check("--json", "parent.py", parent=text, started=True)
    assert [one["rule"] for one in json.loads(done.out)["findings"]] == ["missing-zero-grad"]


def test_comments(check):
    """A comment on the line suppresses the finding; one that suppresses nothing is reported as a hint."""
    text = FAULTY.replace(
        "    opt.step()", "    opt.step()  # loopwright: ignore[missing-zero-grad]"
    )
    done = check("train.py", train=text + 'print("# loopwright: ignore")\n')
    assert done.rc == 0
    assert "1 suppressed" in done.err
    assert "unused-ignore" not in done.err
    text = text.replace("loss.backward()", "opt.zero_grad(); loss.backward()")
    done = check("train.py", train=text)
    assert done.rc == 0
    assert "hint[unused-ignore]" in done.err


def test_settings_and_selection(check, tmp_path):
    """Flags and ``[tool.loopwright.check]`` choose the rules."""
    assert check("--ignore", "missing-zero-grad", "train.py", train=FAULTY).rc == 0
    assert check("--select", "missing-step", "train.py").rc == 0
    (tmp_path / "pyproject.toml").write_text(
        '[tool.loopwright.check]\nignore = ["missing-zero-grad"]\n'
    )
    assert check("train.py").rc == 0
    (tmp_path / "pyproject.toml").write_text("[tool.loopwright.check]\nignor = []\n")
    done = check("train.py")
    assert done.rc == 2
    assert "unknown setting 'ignor' in [tool.loopwright.check]" in done.err


def test_baseline(check, tmp_path):
    """What the baseline knows is not reported again, also when lines have moved."""
    assert check("--baseline", "known.json", "--update-baseline", "train.py", train=FAULTY).rc == 1
    assert check("--baseline", "known.json", "train.py", train="# a line\n" + FAULTY).rc == 0


def test_github(check):
    """``--format github`` prints one annotation a finding."""
    done = check("--format", "github", "train.py", train=FAULTY)
    assert done.out.startswith(
        "::error file=train.py,line=9,col=5,endLine=9,endColumn=15,title=missing-zero-grad::.grad of 2"
    )


def test_steps(check):
    """``--steps`` observes the first steps only."""
    done = check("--steps", "1", "train.py", train=FAULTY)
    assert done.rc == 0
    assert "nothing found; 1 steps" in done.err


WITH_WORKERS = (
    FAULTY.replace("for step", "opt.zero_grad()\nfor step")
    + """\
loader = torch.utils.data.DataLoader(torch.arange(8.0), num_workers=2)
print(sum(loader).item())
"""
)


def test_workers_after_the_first_steps(check):
    """Processes that are forked after ``--steps N`` do not tell again what the first one has found."""
    done = check("--json", "--steps", "3", "train.py", train=WITH_WORKERS)
    observed = json.loads(done.out)["observed"]
    assert (observed["steps"], observed["processes"]) == (3, 1)
    assert "28.0" in done.err


GOES = """\
    called = []
    sys.setprofile(lambda frame, event, _: event == "call" and called.append(frame.f_code.co_name))
    del loss
    sys.setprofile(None)
    assert called == [], called
"""


def test_no_python_of_ours_when_a_graph_goes(check):
    """An interrupt would come in it, where Python prints and forgets it: the program would train on."""
    done = check(
        "train.py",
        train="import sys\n" + FAULTY.replace("net(x)", "torch.nn.Sequential(net)(x)") + GOES,
    )
    assert "AssertionError" not in done.err
    assert done.rc == 1
    assert "8 steps" in done.err


ENDLESS = FAULTY.replace("range(8)", "iter(int, 1)") + '    print("training", flush=True)\n'


def test_ctrl_c_is_the_programs(start_program, tmp_path):
    """An interrupt ends the program as it would alone, and what was found until then is told."""
    (tmp_path / "train.py").write_text(ENDLESS)
    program = start_program(
        ["-m", "loopwright", "check", "--json=found.json", "train.py"],
        cwd=tmp_path,
        warm_children=True,
    )
    while program.out.count("training") < 8:
        assert program.running()
        time.sleep(0.05)
    os.killpg(program.pid, signal.SIGINT)
    done = program.wait()
    assert done.rc == 130
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["program"]["exception"] == "KeyboardInterrupt"
    assert [one["rule"] for one in told["findings"]] == ["missing-zero-grad"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "what shall be checked?"),
        (["none.py"], "there is no file none.py"),
        (["--", "no-such-command"], "there is no command 'no-such-command'"),
        (["--select", "missing-zero-grd", "-c", "1"], "there is no rule 'missing-zero-grd'"),
        (["--stps", "3", "-c", "1"], "unknown flag --stps"),
        (["--steps", "0", "-c", "1"], "--steps must be at least 1"),
        (["--baseline", "none.json", "-c", "1"], "there is no baseline none.json"),
        (["--update-baseline", "-c", "1"], "--update-baseline needs --baseline"),
        (["."], ". is a folder without a __main__.py"),
    ],
)
def test_usage(check, words, says):
    """What cannot be asked for ends with 2 and one error."""
    done = check(*words)
    assert done.rc == 2
    assert says in done.err


def test_rules(run_cli):
    """``rules`` lists every rule, ``rules RULE`` prints its page."""
    listed = run_cli("rules").out
    assert "missing-zero-grad" in listed
    assert "ranks-diverge" in listed
    page = run_cli("rules", "missing-zero-grad").out
    assert page.startswith("# missing-zero-grad")
    assert "+optimizer.zero_grad()" in page
    wrong = run_cli("rules", "mising-zero-grad")
    assert wrong.rc == 2
    assert "did you mean missing-zero-grad?" in wrong.err


def test_torchrun_around_it_is_said(monkeypatch):
    """A rank that is checked by itself says so, and how all are; one process says nothing."""
    from loopwright.cli import one_rank

    monkeypatch.delenv("RANK", raising=False)
    assert one_rank.note("check") == []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert one_rank.note("check") == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    (said,) = one_rank.note("check")
    assert said.startswith("rank 1 of 2 was looked at by itself")
    assert "loopwright check -- torchrun" in said
