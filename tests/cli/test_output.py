"""The files that ``--to`` and ``--html`` name."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from loopwright.cli.output import whole
from loopwright.errors import DiskError


def test_whole_or_not_at_all(tmp_path):
    """The old file stays until the new one is complete, and after an error; nothing else is left."""
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(path) as new:
        new.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    with whole(path) as new:
        new.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_link_stays_a_link(tmp_path):
    """What a link leads to is written, as a shell's ``>`` does."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out.csv"
    link.symlink_to("elsewhere/real.csv")
    with whole(link) as new:
        new.write_text("text")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere/real.csv").read_text() == "text"


def test_a_pipe_is_written_into(tmp_path):
    """What is no file (``/dev/null``, ``/dev/stdout``) is not replaced by one."""
    pipe = tmp_path / "pipe"
    read = drained(pipe)
    with whole(pipe) as new:
        new.write_text("text")
    assert read() == b"text"
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_no_room(tmp_path):
    """A write that fails is one error; what could not be read keeps its own."""
    path = tmp_path / "out.csv"
    with pytest.raises(DiskError, match="no room on the disk"), whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), whole(path):
        (tmp_path / "data.csv").read_text()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("verb", ["predict", "export", "runs"])
def test_every_verb_leaves_a_pipe_alone(run_cli, trained, tmp_path, verb):
    """Each verb that writes to a path of the user's writes into what is no file."""
    words = {
        "predict": ["predict", trained, "0," * 63 + "0", "--to", "pipe"],
        "export": ["export", trained, "--to", "pipe"],
        "runs": ["runs", trained, "--html", "pipe"],
    }[verb]
    read = drained(tmp_path / "pipe")
    rc, _, err = run_cli(*words, cwd=tmp_path)
    assert rc == 0, err
    assert read()
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)


def drained(pipe):
    """Make a pipe with a reader; calling what is returned waits for the bytes that came."""
    os.mkfifo(pipe)
    came = []
    reader = threading.Thread(target=lambda: came.append(pipe.read_bytes()), daemon=True)
    reader.start()

    def read():
        reader.join(30)
        return came[0]

    return read
