"""The order of a checkpoint's operations, seen from the system calls of a whole run."""

from __future__ import annotations

from pathlib import PurePath

import drawn
import pytest
import shim

SETTINGS = drawn.REPRESENTATIVE


@pytest.fixture(scope="module")
def log(bench):
    """Every operation of a run, in order."""
    one = bench.case("order", SETTINGS)
    assert one.run(log=True).result.rc == 0
    return one.log()


def published(log):
    """The operations that put a checkpoint into place."""
    return [
        op for op in log if op.kind == "rename" and PurePath(op.path).name.startswith(".tmp-loop")
    ]


def first(log, kind, path, after=-1):
    """The number of the first operation of that kind on that path after another one."""
    found = (op.number for op in log if (op.kind, op.path) == (kind, path) and op.number > after)
    return next(found, None)


def test_files_are_synced_before_the_name(log):
    """Each file is fsynced before the next is begun, the manifest last, then the folder, then the rename."""
    assert len(published(log)) >= 5
    for rename in published(log):
        at = max(op.number for op in log if (op.kind, op.path) == ("mkdir", rename.path)
                 and op.number < rename.number)  # fmt: skip
        begun = at
        for name in ("state.json", "tensors.safetensors", "manifest.json"):
            file = f"{rename.path}/{name}"
            (opened,) = [op.number for op in log if (op.kind, op.path) == ("open", file)
                         and op.created and begun < op.number < rename.number]  # fmt: skip
            synced = first(log, "fsync", file, at)
            writes = [op.number for op in log if op.kind == "write" and op.path == file
                      and at < op.number < rename.number]  # fmt: skip
            assert at < opened < min(writes) <= max(writes) < synced, file
            at = synced
        folder = first(log, "fsync folder", rename.path, at)
        assert at < folder < rename.number


def test_older_ones_go_last(log):
    """Nothing older is touched before the newer one's name is synced; two are always there."""
    place = str(PurePath(published(log)[0].second).parent)
    sure: dict[str, bool] = {}  # each checkpoint that is in place: whether its name is synced
    gone = 0
    for op in log:
        if op in published(log):
            sure[op.second] = False
        elif (op.kind, op.path) == ("fsync folder", place):
            sure = dict.fromkeys(sure, True)
        elif op.kind in ("rename", "unlink", "rmdir"):
            for name in [name for name in sure if f"{op.path}/".startswith(f"{name}/")]:
                del sure[name]
                gone += 1
                assert all(sure.values()), op
                assert len(sure) >= 2, op
    assert gone >= 3


def test_small_files_are_whole_or_old(log):
    """run.json, outcome.json and the weights are written beside, fsynced, renamed, and the name synced."""
    names = {"run.json", "outcome.json", "best.safetensors", "final.safetensors", "protected.json"}
    seen = set()
    for op in log:
        name = PurePath(op.second).name
        if op.kind == "rename" and name in names:
            seen.add(name)
            writes = [w.number for w in log if w.kind == "write" and w.path == op.path]
            synced = [s.number for s in log if (s.kind, s.path) == ("fsync", op.path)]
            before = max(n for n in writes if n < op.number)
            assert any(before < n < op.number for n in synced), op
            folder = str(PurePath(op.second).parent)
            assert first(log, "fsync folder", folder, op.number) is not None, op
    assert seen == names
    assert not any(op.kind == "write" and PurePath(op.path).name in names for op in log)


def test_the_log_itself():
    """An operation reads as a sentence, so that a failure says which it was."""
    op = shim.Operation(7, "rename", "/a/x", "/a/y", False, False, 0, 0, b"", 0)
    assert str(op) == "7: rename x -> y"


def test_best_weights_go_first(log):
    """Weights that are the best so far are in place before the checkpoint that says so."""
    best = [op.number for op in log if PurePath(op.second).name == "best.safetensors"]
    assert len(best) > 1
    assert max(best) < max(op.number for op in published(log))
