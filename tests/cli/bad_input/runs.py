"""Run folders that belong to another run or a newer version, or that somebody has damaged or poisoned."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

from bad_input.row import Row, recipe

TRAIN = "train mine.py --out run"
LONGER = f"{TRAIN} --epochs 4"
END = "checkpoints/loop-0-end"
START = "checkpoints/loop-0-turn-00000000"


def edited(body: str) -> Callable[[Path], None]:
    """The recipe is another one now."""
    return lambda folder: (folder / "mine.py").write_text(recipe(body)["mine.py"]) and None


def overwritten(name: str, text: str | bytes) -> Callable[[Path], None]:
    """A file of the run holds something else."""
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / "run" / name).write_bytes(data) and None


def cut(*names: str) -> Callable[[Path], None]:
    """Files of the run lost their second half."""

    def harm(folder: Path) -> None:
        for name in names:
            os.truncate(folder / "run" / name, (folder / "run" / name).stat().st_size // 2)

    return harm


def flipped(*names: str) -> Callable[[Path], None]:
    """One bit in the middle of files of the run is another one."""

    def harm(folder: Path) -> None:
        for name in names:
            path = folder / "run" / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 4
            path.write_bytes(data)

    return harm


def every(name: str) -> list[str]:
    """One file of both checkpoints."""
    return [f"{END}/{name}", f"{START}/{name}"]


class Evil:
    """Leaves a file behind when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harmed",)


PICKLE = pickle.dumps(Evil())


def poisoned(*names: str) -> Callable[[Path], None]:
    """Files of the run are pickles that run a command."""

    def harm(folder: Path) -> None:
        for name in names:
            (folder / "run" / name).write_bytes(PICKLE)

    return harm


def linked(*names: str) -> Callable[[Path], None]:
    """Files of the run lead to a secret outside of it."""

    def harm(folder: Path) -> None:
        for name in names:
            path = folder / "run" / name
            if path.is_dir():
                shutil.copytree(path, folder / "outside" / name, dirs_exist_ok=True)
                shutil.rmtree(path)
            else:
                (folder / "outside").mkdir(exist_ok=True)
                (folder / "outside" / path.name).write_bytes(path.read_bytes() + b"SECRET")
                path.unlink()
            path.symlink_to(folder / "outside" / path.name)

    return harm


def piped(name: str) -> Callable[[Path], None]:
    """A file of the run is a pipe, which hangs who reads it."""

    def harm(folder: Path) -> None:
        (folder / "run" / name).unlink()
        os.mkfifo(folder / "run" / name)

    return harm


def newer_checkpoint(folder: Path) -> None:
    """The newest checkpoint has a later version's format, with the right hash."""
    path = folder / "run" / END / "manifest.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    body["version"] = 99
    spelt = json.dumps(body, indent=1).encode() + b"\n"
    body["sha256"] = hashlib.sha256(spelt).hexdigest()
    path.write_bytes(json.dumps(body, indent=1).encode() + b"\n")


def listed_elsewhere(folder: Path) -> None:
    """A manifest lists files outside of its folder, with the right hash."""
    path = folder / "run" / END / "manifest.json"
    body = json.loads(path.read_text())
    del body["sha256"]
    body["files"] = {f"../../../outside/{name}": entry for name, entry in body["files"].items()}
    spelt = json.dumps(body, indent=1).encode() + b"\n"
    body["sha256"] = hashlib.sha256(spelt).hexdigest()
    path.write_bytes(json.dumps(body, indent=1).encode() + b"\n")
    shutil.copytree(folder / "run" / END, folder / "outside")
    shutil.rmtree(folder / "run" / START)


def something_else(folder: Path) -> None:
    """The newest checkpoint is a sound one, of something else."""
    from loopwright.checkpoint import Store

    Store(folder / "run/checkpoints").save({"weights": [1, 2]}, name="loop-0-end")


def header_of(length: int) -> bytes:
    """A safetensors file that claims a header of this length."""
    return length.to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'


HUGE = b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,16]}}'
HUGE = len(HUGE).to_bytes(8, "little") + HUGE + bytes(16)


def run(words: str, code: int, error: str, hint: str = "", harm=None, **rest) -> Row:
    """A row on a trained run."""
    return Row(words, code, error, hint, run=True, harm=harm, **rest)


OTHER = "run holds a run with other settings"
ALL = "all 2 checkpoints are damaged: "

KINDS = {
    "another run's folder": [
        run(f"{TRAIN} --seed 7", 3, OTHER, "--allow-change", above="setting seed"),
        run(f"{TRAIN} --accumulate 2", 3, OTHER, "--resume never", above="accumulate"),
        run("train digits --out run", 3, OTHER, "another --out"),
        run(f"{TRAIN} --epochs 1", 3, OTHER, "epochs", above="loop 0 epochs"),
        run(LONGER, 3, "run holds a run on other data", "--allow-change",
            edited("loader = DataLoader(Data(), batch_size=4)"), above="batches"),
        run(f"{TRAIN} --precision bf16", 3, OTHER, "--allow-change", above="precision"),
    ],
    "checkpoints of another model or optimizer": [
        run(LONGER, 3, OTHER, "", edited("model = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 2))"),
            above="model 0.weight"),
        run(LONGER, 3, OTHER, "", edited("optimizer = lambda p: torch.optim.SGD(p, lr=0.01)"),
            above="optimizer class"),
        run("train digits --init run", 3, "the weights do not fit the model"),
        run("evaluate run", 3, "the weights do not fit the model", "",
            edited("model = nn.Sequential(nn.Linear(3, 9), nn.Linear(9, 2))")),
        run(f"{LONGER} --allow-change model", 3,
            "the checkpoint's model does not fit: size mismatch for 0.weight", "--init",
            edited("model = nn.Sequential(nn.Linear(3, 9), nn.Dropout(), nn.Linear(9, 2))")),
    ],
    "a newer version's folder": [
        run(TRAIN, 3, "run was written by a newer version (format 99", "upgrade loopwright",
            overwritten("run.json", '{"format": 99}')),
        run("report run", 3, "run was written by a newer version (format 99", "upgrade loopwright",
            overwritten("run.json", '{"format": 99}')),
        run(LONGER, 3, "checkpoint 'loop-0-end' has format version 99", "pip install -U", newer_checkpoint),
        run("verify run", 3, f"damaged: {END}", "has format version 99", newer_checkpoint),
        run("verify run", 3, "damaged: run.json", "run.json cannot be read",
            overwritten("run.json", '{"format": 99}')),
    ],
    "truncated files": [
        run(LONGER, 3, f"{ALL}checkpoint 'loop-0-end' is damaged: tensors.safetensors has",
            "restore the folder from a copy", cut(*every("tensors.safetensors"))),
        run(LONGER, 3, f"{ALL}checkpoint 'loop-0-end' is damaged: state.json has", "",
            cut(*every("state.json"))),
        run(LONGER, 3, f"{ALL}checkpoint", "", cut(*every("manifest.json"))),
        run(TRAIN, 3, "run is not a run folder: run.json cannot be read: not JSON", "", cut("run.json")),
        run("evaluate run", 3, "this is not a sound safetensors file: the header claims", "export the file",
            cut("final.safetensors")),
        run("verify run", 3, "damaged: final.safetensors, " + END, "", cut(
            "final.safetensors", f"{END}/tensors.safetensors")),
    ],
    "flipped bits": [
        run(LONGER, 3, f"{ALL}checkpoint 'loop-0-end' is damaged: the content of tensors.safetensors", "",
            flipped(*every("tensors.safetensors"))),
        run(LONGER, 3, f"{ALL}checkpoint 'loop-0-end' is damaged: the content of state.json", "",
            flipped(*every("state.json"))),
        run(LONGER, 3, f"{ALL}checkpoint 'loop-0-end' is damaged: manifest.json is not", "",
            flipped(*every("manifest.json"))),
        run("evaluate run", 3, "this is not a sound safetensors file", "", flipped("final.safetensors")),
        run("train mine.py --out other --init run/final.safetensors", 3,
            "this is not a sound safetensors file", "", flipped("final.safetensors")),
        run("verify run", 3, "damaged: final.safetensors", "changes nothing, for the run has finished",
            flipped("final.safetensors")),
    ],
    "pickles under our names": [
        run(LONGER, 3, f"{ALL}checkpoint", "", poisoned(*every("tensors.safetensors")), limits="audit"),
        run(LONGER, 3, f"{ALL}checkpoint", "", poisoned(*every("state.json"), *every("manifest.json")),
            limits="audit"),
        run("evaluate run", 3, "this is a pickle, which can run any code when it is read: refused",
            "weights_only=True", poisoned("final.safetensors"), limits="audit"),
        run(TRAIN, 3, "run is not a run folder: run.json cannot be read", "", poisoned("run.json"),
            limits="audit"),
        run("train mine.py --out other --init model.pt", 3, "this is a pickle", "safetensors.torch.save_file",
            lambda folder: (folder / "model.pt").write_bytes(PICKLE) and None, limits="audit"),
        run("verify run", 3, "damaged: run.json, outcome.json and ", "", poisoned(
            "run.json", "outcome.json", "metrics.jsonl", "final.safetensors", *every("state.json"),
            "checkpoints/protected.json"), limits="audit"),
    ],
    "absurd sizes and names": [
        run(LONGER, 3, "the checkpoint is whole, and holds something else than a run's state", "",
            something_else),
        run("evaluate run", 3, "the header claims 9,223,372,036,854,775,807 bytes in a file of", "",
            overwritten("final.safetensors", header_of((1 << 63) - 1))),
        run("evaluate run", 3, "does not fit 16 bytes", "", overwritten("final.safetensors", HUGE)),
        run(LONGER, 3, "manifest.json does not list state.json and tensors.safetensors", "", listed_elsewhere,
            limits="audit"),
        run("verify run", 3, "damaged: checkpoints/protected.json", "", overwritten(
            "checkpoints/protected.json", '{"protected": ["../../outside"]}'), limits="audit"),
        run(TRAIN, 3, "run.json cannot be read: it is nested too deeply", "",
            overwritten("run.json", "[" * 200_000)),
    ],
    "symbolic links and pipes": [
        run(TRAIN, 3, "run.json cannot be read: it is a symbolic link", "", linked("run.json"),
            limits="audit"),
        run(LONGER, 3, "checkpoints is a symbolic link, which could lead anywhere: not followed",
            "link the whole run folder", linked("checkpoints"), limits="audit"),
        run(LONGER, 3, f"{ALL}checkpoint", "", linked(*every("tensors.safetensors")), limits="audit"),
        run("evaluate run", 3, "this is a symbolic link, which is not followed here", "",
            linked("final.safetensors"), limits="audit"),
        run("verify run", 3, "damaged: outcome.json, metrics.jsonl", "", linked(
            "outcome.json", "metrics.jsonl"), limits="audit"),
        run(TRAIN, 3, "run.json cannot be read: it is not a file", "", piped("run.json")),
    ],
}  # fmt: skip
