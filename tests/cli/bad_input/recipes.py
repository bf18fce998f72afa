"""Recipes and settings files that are missing, broken, or ask for what cannot be."""

from __future__ import annotations

from bad_input.row import Row, recipe

PROGRAM = "import torch\nfor step in range(3):\n    open('trained', 'w')\n"
ONE = recipe()["mine.py"]

KINDS = {
    "mistyped recipes": [
        Row("train digts", 2, "there is no recipe 'digts' (command line)", "did you mean 'digits'?"),
        Row("train fashion_mnits", 2, "there is no recipe 'fashion-mnits'", "did you mean 'fashion-mnist'?"),
        Row("train zebra", 2, "there is no recipe 'zebra' (command line)", "there are: digits"),
        Row("train none.py", 2, "there is no file none.py"),
        Row("train mien.py", 2, "there is no file mien.py", "'mine.py'?", recipe()),
        Row("train run", 2, "run is a run folder, not a recipe", "loopwright report run", run=True),
    ],
    "recipe files that are none": [
        Row("train m.py", 2, "the file is empty (m.py)", "loopwright new", {"m.py": ""}),
        Row("train m.py", 2, "the file is empty (m.py)", "", {"m.py": "# nothing\n"}),
        Row("train m.py", 2, "the file is not valid Python: invalid syntax (m.py:1)", "",
            {"m.py": "def (:\n"}),
        Row("train m.py", 2, "the file is not valid Python: ", "", {"m.py": b"\x00\x01\x02\xff\xfe"}),
        Row("train m.py", 2, "this is a program: run it with python", "", {"m.py": PROGRAM}),
        Row("train folder", 2, "folder is a folder (command line)", "name a .py file", {"folder/x": ""}),
    ],
    "files with too many recipes, or with a wrong signature": [
        Row("train m.py", 2, "2 recipes in one file: mine (line 21), b (line 57)", "leave one",
            {"m.py": ONE + ONE.replace("def mine", "def b")}),
        Row("train mine.py", 2, "parameter 'epochs' has the name of a setting that the loop owns",
            "rename it", recipe(parameters="epochs: int = 3")),
        Row("train mine.py", 2, "parameter 'dry_run' has the name of a setting", "rename it",
            recipe(parameters="dry_run: bool = False")),
        Row("train mine.py", 2, "parameter 'lr' has no type", "", recipe(parameters="lr")),
        Row("train mine.py", 2, "has type object, which no flag can hold (mine.py:", "Path",
            recipe(parameters="thing: object = None")),
    ],
    "recipes that fail": [
        Row("train mine.py", 1, "NameError: name 'nope' is not defined (mine.py:", "",
            recipe(above="nope")),
        Row("train mine.py", 1, "ModuleNotFoundError: No module named 'nope' (mine.py:", "",
            recipe(above="import nope")),
        Row("train mine.py", 1, "ValueError: from the recipe (mine.py:", "",
            recipe("raise ValueError('from the recipe')")),
        Row("train mine.py", 1, "sys.exit(0) was called (mine.py:", "", recipe("sys.exit(0)")),
        Row("train mine.py", 1, "RecursionError: maximum recursion depth exceeded", "",
            recipe("down()", above="def down():\n    down()")),
        Row("train mine.py", 2, "the file called sys.exit(0) while it was imported (mine.py)", "",
            recipe(above="sys.exit(0)")),
    ],
    "recipes that return no job": [
        Row("train mine.py", 2, "recipe mine returned dict, not a Job", "", recipe("return {}")),
        Row("train mine.py", 2, "recipe mine returned NoneType, not a Job", "", recipe("return")),
        Row("train mine.py", 2, "the job has no loss (mine.py:", "criterion",
            recipe("return lw.Job(model=model, optimizer=optimizer, train_loader=loader)")),
        Row("train mine.py", 2, "how long shall it train?", "--epochs 10",
            recipe("return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
                   " train_loader=loader)")),
        Row("train mine.py", 1, "TypeError: Job.__init__() got an unexpected keyword", "",
            recipe("return lw.Job(modle=model)")),
    ],
    "broken settings files": [
        Row("train none.toml", 2, "no such file: none.toml (command line)"),
        Row("train s.toml", 2, "s.toml sets nothing (s.toml)", "", {"s.toml": ""}),
        Row("train s.toml", 2, "not valid TOML: Invalid value (at line 1, column 10)", "",
            {"s.toml": "recipe = = 3"}),
        Row("train s.toml", 2, "s.toml is not a text file", "", {"s.toml": b"\xff\xfe\x00"}),
        Row("train s.yaml", 2, "not valid YAML: while parsing a flow node", "", {"s.yaml": "recipe: ["}),
        Row("train d.toml", 2, "d.toml is a folder (command line)", "", {"d.toml/x": ""}),
    ],
    "wrong settings in a file": [
        Row("train s.toml", 2, "s.toml names no recipe", "", {"s.toml": "lr = 1"}),
        Row("train s.toml", 2, "there is no recipe 'digit' (s.toml)", "did you mean 'digits'?",
            {"s.toml": "recipe = 'digit'"}),
        Row("train s.toml", 2, "unknown setting 'lrr' (s.toml)", "did you mean lr?",
            {"s.toml": "recipe = 'digits'\nlrr = 1"}),
        Row("train s.toml", 2, "--lr takes a number, not 'fast' (s.toml)", "",
            {"s.toml": "recipe = 'digits'\nlr = 'fast'"}),
        Row("train s.toml", 2, "--lr takes a finite number, not 'nan' (s.toml)", "",
            {"s.toml": "recipe = 'digits'\nlr = nan"}),
        Row("train s.toml", 2, "--epochs takes a whole number, not 'true' (s.toml)", "",
            {"s.toml": "recipe = 'digits'\nepochs = true"}),
    ],
}  # fmt: skip
