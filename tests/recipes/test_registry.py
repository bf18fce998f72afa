"""Recipes by name and by file."""

from __future__ import annotations

import subprocess
import sys

import pytest

from loopwright.errors import UsageError
from loopwright.recipes import registry
from loopwright.recipes.nearest import did_you_mean

GOOD = '''
import loopwright as lw

@lw.recipe
def my_own(lr: float = 0.1) -> lw.Job:
    """Do something."""
'''


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Give a function that writes ``mine.py``; what an import changes is put back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    yield write
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_listing_recipes_imports_no_torch():
    """Names and summaries cost no second."""
    program = (
        "import sys; from loopwright.recipes import registry; registry.summaries();"
        "assert len(registry.names()) == 5; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("name", registry.names())
def test_the_list_agrees_with_the_recipes(name):
    """Each built-in recipe has the name, the summary and a help text for every parameter."""
    info = registry.get(name)
    assert info.name == name
    assert info.summary == registry.summaries()[name]
    assert registry.source_path(name).read_text().count("@lw.recipe") == 1
    assert all(parameter.help.endswith(".") for parameter in info.parameters)
    assert {"lr", "batch_size", "seed"} <= {parameter.name for parameter in info.parameters}


def test_names_are_found_with_dash_and_underscore():
    """``char_lm`` is char-lm."""
    assert registry.find("char_lm") == registry.get("char-lm")


@pytest.mark.parametrize(
    ("name", "nearest"), [("digit", "digits"), ("Fashion-MNIST2", "fashion-mnist")]
)
def test_mistyped_names_get_the_nearest(name, nearest):
    """An unknown name is answered with the nearest one."""
    with pytest.raises(UsageError, match=f"did you mean '{nearest}'"):
        registry.find(name)


@pytest.mark.parametrize("name", registry.names())
def test_every_built_in_recipe_can_be_copied(name, write):
    """The file of a built-in recipe, copied elsewhere, is a recipe file."""
    copy = write(registry.source_path(name).read_text())
    assert registry.load_file(copy).name == name


@pytest.mark.parametrize(
    "line",
    [
        "import loopwright as lw\n@lw.recipe\n",
        "import loopwright\n@loopwright.recipe\n",
        "from loopwright import recipe\n@recipe\n",
        "from loopwright import recipe as mark\n@mark\n",
        "from loopwright.recipes.recipe import recipe\n@recipe\n",
    ],
)
def test_every_spelling_of_the_decorator_is_known(write, line):
    """A recipe is recognised under whatever name the decorator was imported."""
    assert registry.find(str(write(line + "def mine(lr: float = 1.0):\n    pass\n"))).name == "mine"


def test_files_import_their_neighbours(write):
    """A recipe file imports what lies beside it, as a program does."""
    write("SIZE = 7", "neighbour_of_mine.py")
    info = registry.load_file(write("from neighbour_of_mine import SIZE\n" + GOOD))
    assert info.function.__globals__["SIZE"] == 7


def test_a_worker_finds_what_the_file_defines(write):
    """The module has the file's own name, so that another process can import it from beside it."""
    info = registry.load_file(write(GOOD))
    assert info.function.__module__ == "mine"
    assert sys.modules["mine"].my_own is info.function


def test_a_file_may_be_called_like_a_module(write):
    """A recipe in json.py does not replace the json that everything else uses."""
    import json

    info = registry.load_file(write(GOOD, "json.py"))
    assert info.function.__module__ == "loopwright_recipe_json"
    assert sys.modules["json"] is json


def test_programs_are_refused_without_being_run(write, tmp_path):
    """An ordinary script is told what it is; not one line of it has run."""
    trace = tmp_path / "ran"
    script = write(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(UsageError) as caught:
        registry.load_file(script)
    wanted = "this is a program: run it with python, or loopwright check / explain"
    assert caught.value.what == wanted
    assert not trace.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("x = 1\n", "this is a program"),
        ("def recipe(f): return f\n@recipe\ndef mine(): pass\n", "this is a program"),
        ("x = 1\ny = = 2\n", r"mine.py:2 .* not valid Python"),
        (b"\x00\x01\x02", "not valid Python|not Python source"),
        (b"x = '\xff'", "not valid Python"),
        (GOOD + GOOD.replace("my_own", "other"), r"my_own \(line 5\), other \(line 11\)"),
        ("import sys\n" + GOOD + "sys.exit(0)\n", r"called sys.exit\(0\)"),
        (GOOD + "my_own = 3\n", "no longer a recipe"),
        (GOOD.replace("lr: float", "lr"), "mine.py:4 .*'lr' has no type"),
        (GOOD.replace("@lw.recipe", "@lw.recipe()"), "mine.py:4 .*without parentheses"),
    ],
)
def test_broken_files_are_errors_with_their_line(write, text, says):
    """Empty, binary, broken and ambiguous files are refused, each with its reason."""
    with pytest.raises(UsageError, match=f"(?s){says}"):
        registry.load_file(write(text))


def test_missing_files_name_the_nearest(write, tmp_path):
    """A path that is not there, a folder, or another kind of file is said to be so."""
    write(GOOD)
    with pytest.raises(UsageError, match=r"did you mean 'mine\.py'"):
        registry.find(str(tmp_path / "mien.py"))
    with pytest.raises(UsageError, match="is a folder"):
        registry.find(str(tmp_path))
    with pytest.raises(UsageError, match="not a Python file"):
        registry.find(str(write("a,b", "data.csv")))


def test_errors_of_the_file_come_through(write):
    """What the file raises while it is imported keeps its type, and no module is left behind."""
    with pytest.raises(ZeroDivisionError):
        registry.load_file(write(GOOD + "1 / 0\n"))
    assert "mine" not in sys.modules


def test_hints_list_what_there_is():
    """Where nothing is near, all names are listed, up to twenty."""
    assert did_you_mean("x", []) == "there are none"
    assert did_you_mean("zz", [str(n) for n in range(30)]).endswith("… (30 in all)")
    assert did_you_mean("LR", ["lr", "seed"]) == "did you mean 'lr'?"
