"""What cannot travel to workers that are started anew is refused before step 1, by its name."""

from __future__ import annotations

import multiprocessing
import threading

import pytest
import torch
from small import make
from torch import nn
from torch.utils.data import DataLoader, Dataset

import loopwright as lw
from loopwright.errors import DataError
from loopwright.train.data import travel


class Data(Dataset):
    """Three numbers, and whatever ``held`` is."""

    def __init__(self, held=None):
        self.held = held

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.zeros(3)


class Local:
    def __init__(self, inner):
        self.inner = inner


def defined_inside():
    class Inner:
        pass

    return Inner()


def anew(data, method="spawn", **settings) -> DataLoader:
    """A loader whose workers are started anew."""
    return DataLoader(data, num_workers=1, multiprocessing_context=method, **settings)


def numbers():
    yield 1


CANNOT = [
    (lambda: 1, ".held is a lambda ("),
    ({"a": [lambda: 1]}, ".held['a'][0] is a lambda ("),
    (Local(lambda: 1), ".held.inner is a lambda ("),
    (defined_inside(), ".held is of the class Inner, which is defined inside a function"),
    (numbers(), ".held is a generator"),
    (threading.Lock(), ".held is a lock (TypeError: cannot pickle"),
]


@pytest.mark.parametrize(("held", "words"), CANNOT)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_named(held, words, method):
    """The attribute that cannot travel is named, with what it is and where it was made."""
    with pytest.raises(DataError) as caught:
        travel.check(anew(Data(held), method))
    assert caught.value.what.startswith(
        f"the data set cannot travel to workers that are started by {method}: its {words}"
    )
    assert caught.value.slug == "cannot-travel"
    assert "test_travel.py:" in caught.value.where
    assert caught.value.__cause__ is None


def test_an_open_file(tmp_path):
    """An open file is named with its path."""
    with (tmp_path / "data.bin").open("wb") as file, pytest.raises(DataError) as caught:
        travel.check(anew(Data(file)))
    assert f"its .held is an open file ({tmp_path / 'data.bin'})" in caught.value.what


@pytest.mark.parametrize("name", ["collate_fn", "worker_init_fn"])
def test_functions(name):
    """The loader's functions have to travel, too."""
    with pytest.raises(DataError, match=f"the {name} cannot travel .*: it is a lambda"):
        travel.check(anew(Data(), **{name: lambda x: x}))


CAN = [
    None,
    torch.zeros(1000),
    {"a": (1, "b", len, Local)},
    Local(nn.Linear(2, 2)),
    multiprocessing.get_context("spawn").Lock(),
    multiprocessing.get_context("spawn").Value("i", 3),
    multiprocessing.get_context("spawn").Queue(),
]


@pytest.mark.parametrize("held", CAN, ids=lambda held: type(held).__name__)
def test_what_travels(held):
    """Plain data, tensors, modules, and the locks and queues that are made for it, are let through."""
    travel.check(anew(Data(held)))


def test_forked_workers_have_everything():
    """Where workers are forked, or there are none, nothing has to travel."""
    travel.check(DataLoader(Data(lambda: 1), num_workers=1, multiprocessing_context="fork"))
    travel.check(DataLoader(Data(lambda: 1), num_workers=0))


def test_large_data_are_made_into_nothing():
    """The bytes are counted nowhere: a data set of 200 MB takes no second 200 MB."""
    import resource

    held = [bytes(1 << 20) for _ in range(200)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    travel.check(anew(Data(held)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_before_step_1(tmp_path):
    """A loop is refused when it is made, and leaves no folder."""
    run = make(tmp_path / "run")
    with pytest.raises(DataError, match="cannot travel"):
        run.loop(anew(Data(lambda: 1)), epochs=1)
    run.close()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("which", ["valid_loader", "test_loader"])
def test_validation_data_before_step_1(tmp_path, which):
    """``fit`` looks at the validation and test data before it trains."""
    model = nn.Linear(3, 1)
    with pytest.raises(DataError, match="cannot travel"):
        lw.fit(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            None,
            [torch.zeros(2, 3)],
            compute_loss=lambda model, batch: model(batch).sum(),
            epochs=1,
            out=tmp_path / "run",
            **{which: anew(Data(lambda: 1))},
        )
    assert not (tmp_path / "run").exists()


def test_once_for_each_loader(monkeypatch):
    """A loader that was let through is not tried again at every evaluation."""
    loader = anew(Data())
    travel.check(loader)
    monkeypatch.setattr(travel, "_refusal", None)
    travel.check(loader)
