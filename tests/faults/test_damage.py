"""One flipped bit in every region of every file of a run's folder, files cut short, files gone.

Whatever is damaged: the run goes on to the same bits, or it says in one line why not. What only shows
(curves, how it ended) may be poorer; nothing crashes, and nothing trains on from a state that is not the
run's.
"""

from __future__ import annotations

import random
import shutil

import drawn
import pytest
from bench import Kill, differences, slug

SETTINGS = drawn.REPRESENTATIVE
ONLY_SHOWN = {
    "metrics.jsonl": ("one/curves", "one/epochs"),
    "outcome.json": ("one/outcome", "one/totals"),
}
"""Files without a hash -> what of the result a damage to them may change."""
REFUSALS = {
    "run.json": {"not-a-run", "another-run", "newer-version", "no-run-json"},
    "best.safetensors": {"weights-damaged", "no-best-weights"},
}
"""Files whose damage may be a refusal -> its slugs."""


@pytest.fixture(scope="module", params=["interrupted", "finished"])
def base(bench, request):
    """A run that was killed in its second epoch, and one that is finished."""
    one = bench.case(f"base-{request.param}", SETTINGS)
    if request.param == "finished":
        assert one.run().result.rc == 0
    else:
        assert Kill("mark", place="body", after=13).run(one).killed
    return one


def files(base):
    """The files of the run's folder, smallest names first."""
    return sorted(str(p.relative_to(base.work)) for p in base.work.rglob("*") if p.is_file())


def newest(base):
    """The name of the newest checkpoint."""
    place = base.work / "runs" / "one" / "checkpoints"
    names = sorted(path.name for path in place.iterdir() if path.name.startswith("loop"))
    return next((name for name in names if name.endswith("end")), names[-1])


def flipped(raw: bytes, region: int, regions: int, generator: random.Random) -> bytes:
    """The bytes with one bit flipped somewhere in one of so many regions."""
    changed = bytearray(raw)
    first, last = len(raw) * region // regions, len(raw) * (region + 1) // regions
    changed[generator.randrange(first, last)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def after(case, base, name, content):
    """Run the command in a copy of the folder with one file changed (None: gone)."""
    one = case(SETTINGS)
    shutil.copytree(base.work, one.work, dirs_exist_ok=True)
    if content is None:
        (one.work / name).unlink()
    else:
        (one.work / name).write_bytes(content)
    return one, one.run()


def wrong_after(case, base, whole, name, content):
    """What is wrong with the outcome after one file was damaged; empty when nothing is."""
    one, ending = after(case, base, name, content)
    short = name.rpartition("/")[2]
    error = ending.result.err
    if ending.result.rc:
        found = slug(error)
        return (
            "" if found in REFUSALS.get(short, ()) else f"exit {ending.result.rc}: {error[-600:]}"
        )
    shown = ONLY_SHOWN.get(short, ())
    paths = differences(whole(SETTINGS).result, one.result())
    if bad := [path for path in paths if not path.startswith(shown)] if shown else paths:
        return f"silently different: {bad[:5]}"
    if f"checkpoints/{newest(base)}/" in name and f"'{newest(base)}' is damaged" not in error:
        return f"nothing was said of it: {error[-300:]}"
    return ""


def with_bits_flipped(case, base, whole, regions):
    """Flip a bit in every region of every file; what went wrong, by file and region."""
    generator = random.Random(0)
    wrong = {}
    for name in files(base):
        raw = (base.work / name).read_bytes()
        for region in range(min(regions, len(raw))):
            content = flipped(raw, region, min(regions, len(raw)), generator)
            if found := wrong_after(case, base, whole, name, content):
                wrong[f"{name}, region {region}"] = found
        if name.endswith(("best.safetensors", f"{newest(base)}/tensors.safetensors")):
            # a weight's, and no header's that has a check of its own
            content = raw[:-1] + bytes([raw[-1] ^ 64])
            if found := wrong_after(case, base, whole, name, content):
                wrong[f"{name}, the last byte"] = found
    return wrong


def test_the_folder_has_all_kinds_of_files(base):
    """The damaged folders hold checkpoints, weights, settings, curves, and how it ended."""
    names = {name.rpartition("/")[2] for name in files(base)}
    expected = {"manifest.json", "state.json", "tensors.safetensors", "run.json", "outcome.json",
                "metrics.jsonl", "best.safetensors", ".lock"}  # fmt: skip
    assert expected <= names
    if "finished" in base.folder.name:
        assert {"final.safetensors", "raw.safetensors", "protected.json", "report.html"} <= names


@pytest.mark.parametrize(
    "base",
    [pytest.param("interrupted", marks=pytest.mark.long), "finished"],
    indirect=True, scope="module",
)  # fmt: skip
def test_some_flipped_bits(case, whole, base):
    """A bit flipped in each file: the same bits, or a refusal that says why."""
    assert with_bits_flipped(case, base, whole, 1) == {}


@pytest.mark.long
def test_flipped_bits(case, whole, base):
    """The same with a hundred regions of each file."""
    assert with_bits_flipped(case, base, whole, 100) == {}


QUICK = {("finished", "half")}
CUT_SHORT = [
    pytest.param(
        state,
        fault,
        id=f"{state}-{fault}",
        marks=() if (state, fault) in QUICK else pytest.mark.long,
    )
    for state in ("interrupted", "finished")
    for fault in ("gone", "half", "empty", "one byte short", "zeros")
]


@pytest.mark.parametrize(("base", "fault"), CUT_SHORT, indirect=["base"], scope="module")
def test_files_cut_short(case, whole, base, fault):
    """A file that is gone, empty, cut short, or full of zeros: the same bits, or a refusal."""
    wrong = {}
    for name in files(base):
        raw = (base.work / name).read_bytes()
        content = {"gone": None, "empty": b"", "half": raw[: len(raw) // 2],
                   "one byte short": raw[:-1], "zeros": bytes(len(raw))}[fault]  # fmt: skip
        if found := wrong_after(case, base, whole, name, content):
            wrong[name] = found
    assert wrong == {}
