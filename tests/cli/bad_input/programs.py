"""What ``check`` cannot be asked: programs that are not there, flags and settings that are wrong."""

from __future__ import annotations

from bad_input.row import Row

AT = "(command line)"
SCRIPT = {"train.py": "print('it ran')\n"}


def settings(text: str) -> dict[str, str]:
    """A script and a pyproject.toml with a table for check."""
    return {**SCRIPT, "pyproject.toml": f"[tool.loopwright.check]\n{text}\n"}


KINDS = {
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
