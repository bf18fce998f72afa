"""A model's weights in one safetensors file that every other tool can read.

The file's metadata says ``format: pt`` (what others look for) and, under ``loopwright``, the names
that share memory, the dtypes that the format has no word for, the caller's meta, and the hash of the
whole file. Files of others have none of that and load as well.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from loopwright.checkpoint import arrays, disk, leaves, tensorfile
from loopwright.checkpoint.refusal import refuse
from loopwright.checkpoint.tree import decode, encode
from loopwright.errors import CheckpointError

OURS = "loopwright"
BLANK = "0" * 64  # stands where the hash goes while the hash is made
PICKLES = (b"\x80", b"PK\x03\x04")


def save_weights(
    path: str | Path, state_dict: Mapping[str, Tensor], meta: Mapping[str, Any] | None = None
) -> None:
    """Write weights so that ``path`` holds the old file or the whole new one, never a part.

    Tensors that are the same view of the same memory are written once.

    Args:
        path: ends in ``.safetensors`` by custom; its folder must exist.
        state_dict: dense tensors on any device.
        meta: a tree without tensors, handed back by `load_weights_file`.

    Raises:
        UnsupportedState: an entry that is no dense tensor, by its name.
        DiskError: no room, no permission; the old file is as it was.
    """
    path = Path(path)
    tensors, record = _pack(state_dict)
    record["meta"], stray = encode(dict(meta or {}), root="meta")
    for name, tensor in stray.items():
        refuse(tensor, f"meta ({name})")
    # The hash comes first, so that no name and no meta with 64 zeros stands before it.
    metadata = {"format": "pt", OURS: json.dumps({"sha256": BLANK, **record})}
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    temporary = path.with_name(f".tmp-{path.name}")
    with disk.failures(f"write {path.name}", path, needed=size):
        if disk.is_device(path):  # a rename would remove it
            raise OSError(errno.EINVAL, "it is there and no file", str(path))
        temporary.unlink(missing_ok=True)
        try:
            _write(temporary, tensors, metadata)
            disk.rename(temporary, path)
        except BaseException:  # Ctrl-C too leaves no half
            with suppress(OSError):  # the first failure is the one to report
                temporary.unlink(missing_ok=True)
            raise
        disk.sync_folder(path.parent)


def _pack(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    other: dict[str, Any] = {}
    seen: dict[tuple[Any, ...], str] = {}
    for name, tensor in state_dict.items():
        path = f"state_dict[{name!r}]"
        if not isinstance(tensor, Tensor):
            refuse(tensor, path)
        why = arrays.refusal(tensor)
        if why or not leaves.is_plain(name) or name == "__metadata__":
            refuse(tensor, path, kind=why or f"a tensor under the name {name!r}")
        kept = seen.setdefault(arrays.identity(tensor), name)
        if kept != name:
            aliases[name] = kept
            continue
        plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
        if plain.dtype not in tensorfile.NAMES:
            other[name] = [str(plain.dtype).removeprefix("torch."), list(plain.shape)]
            plain = arrays.bytes_of(plain)
        tensors[name] = plain
    return tensors, {"order": list(state_dict), "aliases": aliases, "dtypes": other}


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    head, order = tensorfile.header(tensors, metadata)
    with disk.HashedFile(path) as file:
        file.write(head)
        tensorfile.write_tensors(file, (tensors[name] for name in order))
        # BLANK stands in a JSON text inside of a JSON text: its digits are not escaped.
        file.patch(file.sha256.encode(), head.index(BLANK.encode()))
        file.finish()


def load_weights_file(
    path: str | Path, *, follow: bool = True
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file, ours or another's; runs no code.

    Args:
        path: the file.
        follow: where the path is a symbolic link, read what it leads to; False refuses it, as in a
            folder that may be somebody else's.

    Returns:
        The tensors by name, on the CPU (shared ones shared again), and the meta: what was given to
        `save_weights`, or another tool's metadata as it is.

    Raises:
        CheckpointError: missing, a pickle (``.pt``, ``.pth``, ``.bin``), not safetensors, damaged.
        DiskError: it is there and may not be read.
    """
    path = Path(path)
    try:
        with disk.HashedReader(path.resolve() if follow else path) as reader:
            return _read(reader)
    except tensorfile.MalformedFile as error:
        raise _not_weights(path, error) from error
    except FileNotFoundError as error:
        raise CheckpointError(
            "there is no such file", slug="no-such-weights", where=str(path)
        ) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
            what = (
                "a symbolic link, which is not followed here" if path.is_symlink() else "not a file"
            )
            raise CheckpointError(
                f"this is {what}", slug="no-such-weights", where=str(path)
            ) from error
        raise disk.explain(error, "read weights", path) from error


def _read(reader: disk.HashedReader) -> tuple[dict[str, Tensor], dict[str, Any]]:
    head, entries, metadata = tensorfile.read_header(reader)
    if OURS not in metadata:
        return tensorfile.read_tensors(reader, entries), dict(metadata)
    try:
        record = json.loads(metadata[OURS])
        claimed = record["sha256"]
        reader.rehash(head.replace(claimed.encode(), BLANK.encode(), 1))
        tensors = tensorfile.read_tensors(reader, entries)
        _check_hash(reader, claimed)
        for name, (dtype, shape) in record["dtypes"].items():
            tensors[name] = tensors[name].view(leaves.TORCH_DTYPES[dtype]).reshape(shape)
        for name, kept in record["aliases"].items():
            tensors[name] = tensors[kept]
        return {name: tensors[name] for name in record["order"]}, decode(record["meta"], {})
    except tensorfile.MalformedFile:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise tensorfile.MalformedFile(f"its metadata is not readable ({error})") from error


def verify_weights(path: Path) -> list[str]:
    """Read a file of `save_weights` and compare it with its hash; needs no memory for tensors.

    Returns:
        What is wrong, in words; an empty list when every byte is as it was written.
    """
    try:
        with disk.HashedReader(path) as reader:
            head, _, metadata = tensorfile.read_header(reader)
            if OURS not in metadata:
                return ["it carries no hash: it was not written by Loopwright"]
            claimed = json.loads(metadata[OURS])["sha256"]
            reader.rehash(head.replace(claimed.encode(), BLANK.encode(), 1))
            while reader.read(disk.CHUNK):
                pass
            _check_hash(reader, claimed)
    except FileNotFoundError:
        return ["it is missing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        link = isinstance(error, OSError) and path.is_symlink()
        return ["it is a symbolic link" if link else str(error)]
    return []


def _check_hash(reader: disk.HashedReader, claimed: str) -> None:
    if reader.sha256 != claimed:
        raise tensorfile.MalformedFile("its content is not what was written (sha256 differs)")


def _not_weights(path: Path, why: Exception) -> CheckpointError:
    with disk.failures("read weights", path), path.open("rb") as file:
        pickled = file.read(4).startswith(PICKLES)
    if pickled:
        return CheckpointError(
            "this is a pickle, which can run any code when it is read: refused",
            slug="pickle-refused",
            where=str(path),
            hint="if you trust it, convert it once: safetensors.torch.save_file("
            f"torch.load({path.name!r}, weights_only=True), {path.stem + '.safetensors'!r})",
        )
    return CheckpointError(
        f"this is not a sound safetensors file: {why}",
        slug="weights-damaged",
        where=str(path),
        hint="download or export the file again",
    )
