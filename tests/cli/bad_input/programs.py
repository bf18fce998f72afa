"""What ``check`` and ``explain`` cannot be asked: programs that are not there, wrong flags and settings."""

from __future__ import annotations

from bad_input.row import Row

AT = "(command line)"
SCRIPT = {"train.py": "print('it ran')\n"}


def settings(text: str) -> dict[str, str]:
    """A script and a pyproject.toml with a table for check."""
    return {**SCRIPT, "pyproject.toml": f"[tool.loopwright.check]\n{text}\n"}


TRAINS = {"train.py": "import torch\nw = torch.ones(2, requires_grad=True)\nw.sum().backward()\n"}
NOTHING = (
    "no process of the program imported torch and ended by itself, so there is nothing to explain"
)


def earlier(text: str) -> dict[str, str]:
    """A script that trains, and what is said to be an earlier explanation of it."""
    return {**TRAINS, "old.json": text}


KINDS = {
    "programs that cannot be explained": [
        Row("explain none.py", 2, f"there is no file none.py {AT}", "loopwright explain -- none.py"),
        Row("explain .", 2, f". is a folder without a __main__.py {AT}"),
        Row("explain -- no-such-command", 2, f"there is no command 'no-such-command' {AT}"),
        Row("explain -m", 2, f"-m needs a value {AT}"),
        Row("explain train.py", 2, f"{NOTHING} (train.py)", "is this the script that trains?", SCRIPT),
        Row("explain --html none/page.html --no-whatifs train.py", 4, "cannot write none/page.html", "",
            TRAINS),
    ],
    "flags of explain that are wrong": [
        Row("explain --stps 3 train.py", 2, f"unknown flag --stps {AT}", "did you mean --steps?", TRAINS),
        Row("explain --steps 0 train.py", 2, f"--steps must be at least 1, not 0 {AT}", "", TRAINS),
        Row("explain --steps two train.py", 2, f"--steps takes a whole number, not 'two' {AT}", "", TRAINS),
        Row("explain --wait -1 train.py", 2, f"--wait must be at least 0, not -1.0 {AT}", "", TRAINS),
        Row("explain --wait nan train.py", 2, f"--wait takes a finite number, not 'nan' {AT}", "", TRAINS),
        Row("explain --budget 0 train.py", 2, f"--budget must be at least 1, not 0 {AT}", "", TRAINS),
    ],
    "explanations that cannot be compared": [
        Row("explain --diff old.json", 2, f"with what shall old.json be compared? {AT}", "train.py",
            earlier("{}")),
        Row("explain --diff none.json train.py", 2, "none.json is no explanation: there is no such file",
            "loopwright explain --json=before.json train.py writes one", TRAINS),
        Row("explain --diff old.json train.py", 2, "old.json is no explanation: JSONDecodeError: ", "",
            earlier("{")),
        Row("explain --diff old.json train.py", 2, "old.json is no explanation: its version is 9", "",
            earlier('{"version": 9}')),
        Row("explain --diff old.json train.py", 2, "old.json is no explanation: its fields are others", "",
            earlier('{"version": 1, "steps": [{}]}')),
        Row("explain --diff none.py train.py", 2, f"there is no file none.py {AT}", "", TRAINS),
    ],
    "programs that cannot be checked": [
        Row("check", 2, f"what shall be checked? {AT}", "loopwright check train.py"),
        Row("check none.py", 2, f"there is no file none.py {AT}", "loopwright check -- none.py"),
        Row("check .", 2, f". is a folder without a __main__.py {AT}"),
        Row("check -- no-such-command", 2, f"there is no command 'no-such-command' {AT}"),
        Row("check -m", 2, f"-m needs a value {AT}"),
        Row("check --fix -c 1", 2, f"--fix and --diff need a program in a file {AT}", "into a file"),
    ],
    "flags of check that are wrong": [
        Row("check --stps 3 train.py", 2, f"unknown flag --stps {AT}", "did you mean --steps?", SCRIPT),
        Row("check --steps 0 train.py", 2, f"--steps must be at least 1, not 0 {AT}", "", SCRIPT),
        Row("check --select missing-zero-grd train.py", 2, "there is no rule 'missing-zero-grd'",
            "did you mean missing-zero-grad?", SCRIPT),
        Row("check --baseline none.json train.py", 2, "there is no baseline none.json",
            "--update-baseline writes it", SCRIPT),
        Row("check --update-baseline train.py", 2, "--update-baseline needs --baseline", "", SCRIPT),
        Row("check --format gitlab train.py", 2, "--format takes text or github, not 'gitlab'", "", SCRIPT),
    ],
    "settings of check that are wrong": [
        Row("check train.py", 2, "unknown setting 'ignor' in [tool.loopwright.check]", "",
            settings("ignor = []")),
        Row("check train.py", 2, "steps takes a int, not 'ten'", "", settings("steps = 'ten'")),
        Row("check train.py", 2, "not valid TOML", "", settings("ignore = [")),
        Row("check train.py", 2, "known.json is no baseline", "",
            {**settings("baseline = 'known.json'"), "known.json": "[1]"}),
        Row("check train.py", 2, "there is no rule 'missing-stp'", "did you mean missing-step?",
            settings("select = ['missing-stp']")),
        Row("rules missing-stp", 2, "there is no rule 'missing-stp'", "did you mean missing-step?"),
    ],
}  # fmt: skip
