"""State trees keep every value, type, order and bit, or are refused with the path."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import random
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from alike import alike
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.checkpoint import UnsupportedState, decode, encode
from loopwright.checkpoint.tree import MalformedTree


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias, which comes back as RED
    BLUE = "b"


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


# --import-mode=importlib gives test modules a name that need not be in sys.modules.
sys.modules.setdefault(__name__, types.ModuleType(__name__)).__dict__.update(
    Colour=Colour, Level=Level, Mode=Mode
)


def again(state):
    """Encode, spell as JSON, read, decode."""
    tree, tensors = encode(state)
    text = json.dumps(tree, allow_nan=False)
    with torch.inference_mode(mode=False):
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
    return decode(json.loads(text), copies)


NAN_WITH_PAYLOAD = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]

SAMPLES = {
    "none": None,
    "bools beside ints": [True, 1, False, 0, 1.0],
    "an int beyond 64 bits": [2**63 - 1, 2**63, -(2**63), -(2**63) - 1],
    "an int of 20,000 digits": 10**20_000,
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308],
    "infinities and nan": [math.inf, -math.inf, math.nan, NAN_WITH_PAYLOAD],
    "complex": [1 + 2j, complex(math.nan, -0.0), complex(math.inf, 1)],
    "text": ["", "plain", "äß漢🙂", '\x00\n"\\'],
    "a lone surrogate": "\ud800",
    "a surrogate pair kept as two": "\ud83d\ude00",
    "a surrogate in a key": {"\udc80": 1},
    "bytes": [b"", bytes(range(256)), b"x" * 5000],
    "keys of many types": {1: "int", "1": "str", 1.5: "float", None: "none", (1, "a"): "tuple"},
    "a bool key": {True: "yes", "True": "text"},
    "keys that JSON would merge": {"a": 1, b"a": 2, frozenset({1}): 3},
    "order of keys": {"b": 1, "a": 2, "c": 3},
    "a key that looks like a tag": {"tensor": "0 state"},
    "lists and tuples": [[], (), [()], ([],), (1, [2, (3,)])],
    "sets": [set(), {1, "a", None, (1, 2)}, frozenset({b"x", 2.5})],
    "an ordered dict": OrderedDict([("b", 1), ("a", OrderedDict())]),
    "a counter": Counter({3: 2, 5: 1}),
    "default dicts": [defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2})],
    "deques": [deque(), deque([1, [2]], maxlen=4)],
    "enums": [Colour.RED, Colour.CRIMSON, Colour.BLUE, Level.LOW, Mode.READ, Mode.READ | Mode.WRITE],
    "an enum as a key": {Colour.BLUE: 1},
    "torch's small types": [torch.Size([2, 0]), torch.float8_e5m2],
    "torch's devices": [torch.device("cuda:1"), torch.device("cpu")],
    "python's generator": random.Random(3).getstate(),
    "numpy's generator": np.random.RandomState(3).get_state(),
    "numpy's new generator": np.random.default_rng(3).bit_generator.state,
    "torch's generator": torch.Generator().manual_seed(3).get_state(),
    "60,000 ints": list(range(60_000)),
    "ints with a large one": [1, 2, 2**70],
    "ints with a bool": [1, True, 0],
    "numpy scalars": [np.float32("nan"), np.int8(-1), np.bool_(True), np.float16(-0.0), np.longdouble(1) / 3],
    "numpy text": [np.str_("a\x00"), np.bytes_(b"a\x00")],
    "numpy times": [np.datetime64("2020-01-01T00:00", "ns"), np.timedelta64("NaT")],
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_value_comes_back_the_same(name):
    """Every supported kind comes back with its value, its type and its bits."""
    assert alike(again(SAMPLES[name]), SAMPLES[name])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i4").reshape(2, 3),
        np.asfortranarray(np.random.RandomState(0).rand(3, 4)),
        np.arange(24).reshape(2, 3, 4)[:, ::2, ::-1],
        np.arange(3, dtype=">f8"),
        np.array(2.5),
        np.zeros((3, 0)),
        np.array(["a", "äöü"]),
        np.array([b"x", b"yy"]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([True, False]),
        np.array([1 + 2j], "c8"),
        np.broadcast_to(np.float32(1.5), (2, 3)),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_an_array_comes_back_the_same(array):
    """Numpy arrays keep dtype, byte order, shape and values, and can be written to afterwards."""
    back = again({"a": array})["a"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    assert back.flags.writeable


DTYPES = sorted(
    {
        str(value): value
        for value in vars(torch).values()
        if isinstance(value, torch.dtype)
        and not str(value).startswith(("torch.q", "torch.bits", "torch.complex32"))
    }.items()
)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [dtype for _, dtype in DTYPES], ids=str)
def test_a_tensor_of_any_dtype_comes_back_the_same(dtype, shape):
    """Every dtype that torch has (quantized ones apart) comes back bit by bit in every shape."""
    size = math.prod(shape) * dtype.itemsize
    raw = torch.arange(size, dtype=torch.uint8) % 2
    tensor = (raw if dtype.itemsize == 1 else raw * 91).view(dtype).reshape(shape)
    assert alike(again([tensor]), [tensor])


def test_strides_of_dense_tensors_are_kept():
    """A channels_last or transposed tensor keeps its strides: other strides can mean other bits."""
    tensors = [
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, 4).t(),
        torch.randn(3, 4).to(torch.complex128).t(),
        torch.empty_strided((4, 4, 1, 1), (4, 1, 4, 4)).normal_(),
        torch.randn(10)[2:7],
    ]
    for tensor, back in zip(tensors, again(tensors), strict=True):
        assert alike(back, tensor)
        assert back.stride() == tensor.stride()


def test_views_with_holes_come_back_contiguous():
    """A strided or expanded view keeps its values, not its holes."""
    tensors = [torch.arange(10)[::3], torch.ones(1).expand(4), torch.randn(4, 4)[:, :2]]
    tensors += [
        torch.randn(3, dtype=torch.complex64).conj(),
        torch.view_as_complex(torch.randn(3, 2)).conj().imag,
    ]
    for tensor, back in zip(tensors, again(tensors), strict=True):
        assert back.is_contiguous()
        assert torch.equal(back, tensor)


def test_tied_tensors_stay_tied_and_others_do_not_become_so():
    """The same view twice is stored once and comes back as one tensor; equal values stay apart."""
    weight = torch.randn(3, 3)
    state = {
        "a": weight,
        "b": weight.detach(),
        "c": weight.clone(),
        "d": weight.t(),
        "e": weight[0],
    }
    tree, tensors = encode(state)
    assert len(tensors) == 4
    back = decode(tree, {name: tensor.clone() for name, tensor in tensors.items()})
    assert back["a"] is back["b"]
    assert back["a"].data_ptr() != back["c"].data_ptr()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_parameters_and_leaves_keep_what_they_are():
    """A Parameter stays a Parameter, frozen or not; a leaf that requires grad still does."""
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    state = [torch.nn.Parameter(torch.ones(2)), frozen, torch.ones(2, requires_grad=True)]
    back = again([*state, state[0] * 2])
    assert [type(value) for value in back[:3]] == [
        torch.nn.Parameter,
        torch.nn.Parameter,
        torch.Tensor,
    ]
    assert [value.requires_grad for value in back] == [True, False, True, False]


def test_the_state_of_a_real_training_comes_back_the_same():
    """Model, optimizer and scheduler states round-trip, versions of the modules included."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer),
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 4]),
        ],
        milestones=[2],
    )
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    scheduler.step()
    state = {
        "m": model.state_dict(),
        "o": optimizer.state_dict(),
        "s": scheduler.state_dict(),
        "p": plateau.state_dict(),
    }
    back = again(state)
    assert alike(back, state)
    assert back["m"]._metadata == state["m"]._metadata


def test_encoding_under_inference_mode_gives_ordinary_tensors():
    """A state that was saved and read under inference_mode can be trained on."""
    with torch.inference_mode():
        back = again({"w": torch.ones(2)})
    assert not back["w"].is_inference()


def test_nothing_random_is_drawn():
    """Encoding and decoding leave every generator where it was."""
    before = torch.get_rng_state(), random.getstate()
    again({"w": torch.randn(1, generator=torch.Generator()), "r": random.getstate()})
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


class Worker:
    """Something that no checkpoint takes."""


Pair = namedtuple("Pair", "a b")


@dataclass
class Record:
    a: int = 1


def loop_of_lists():
    """A list that contains itself."""
    made = []
    made.append(made)
    return made


def nested(levels):
    """A list in a list in a list."""
    made = []
    for _ in range(levels):
        made = [made]
    return made


class Name(str):
    __slots__ = ()


REFUSED = [
    ({"worker": [Worker()]}, "state['worker'][0]: Worker", "rebuild"),
    ({"a": {"b": (1, lambda: 0)}}, "state['a']['b'][1]: function", "functions"),
    ([Pair(1, 2)], "state[0]: Pair", "_asdict"),
    ({"r": Record()}, "state['r']: Record", "asdict"),
    ({"g": torch.Generator()}, "state['g']: Generator", "get_state"),
    ({"m": torch.nn.Linear(1, 1)}, "state['m']: Linear", "state_dict()"),
    ({"p": Path("x")}, "state['p']: ", "str(path)"),
    ({"v": torch.__version__}, "state['v']: TorchVersion", "str(value)"),
    ({"n": Name("x")}, "state['n']: Name", "str(value)"),
    ({"a": np.array([object()])}, "state['a']: numpy array of dtype object", "plain numpy array"),
    ({"a": np.zeros(2, "i4,f4")}, "state['a']: numpy array of dtype", "plain numpy array"),
    ({"a": np.ma.masked_array([1])}, "state['a']: MaskedArray", "plain numpy array"),
    ({"t": torch.eye(2).to_sparse()}, "state['t']: Tensor of layout torch.sparse_coo", "to_dense"),
    ({"t": torch.empty(1, device="meta")}, "state['t']: Tensor on the meta device", "dense"),
    ({torch.ones(1): 1}, "as a key", "dense"),
    ({Worker(): 1}, "the key of state[", "rebuild"),
    ({"s": {Worker}}, "state['s']{", "functions"),
    ({"d": defaultdict(Worker)}, "state['d'].default_factory: type", "functions"),
    (loop_of_lists(), "state[0]: list that contains itself", "list(value)"),
    (nested(150), "more than 100 levels", "list(value)"),
    ({"f": open}, "state['f']: builtin_function_or_method", "functions"),
]


@pytest.mark.parametrize(
    ("state", "message", "hint"), REFUSED, ids=[row[1][:40] for row in REFUSED]
)
def test_anything_else_is_refused_with_its_path(state, message, hint):
    """What cannot be stored is named by its path and class, with what to store instead."""
    with pytest.raises(UnsupportedState) as caught:
        encode(state)
    assert message in caught.value.what
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


def test_an_enum_that_no_name_leads_to_is_refused():
    """An enum made inside a function could not be found again."""

    class Local(enum.Enum):
        A = 1

    with pytest.raises(UnsupportedState, match="Local"):
        encode({"e": Local.A})


def test_an_attribute_on_an_ordered_dict_is_refused():
    """Only the versions that torch's modules put there are kept; anything else is named."""
    state = OrderedDict()
    state.extra = 1
    with pytest.raises(UnsupportedState, match=r"state\.extra"):
        encode(state)


MALFORMED = [
    {"a": 1, "b": 2},
    {},
    {"unknown": 1},
    {"tensor": "not there"},
    {"tensor": {"at": "t", "shape": [4], "stride": [1000]}},
    {"tensor": {"at": "t", "shape": [2], "stride": [0]}},
    {"tensor": {"at": "t", "dtype": "nn"}},
    {"tensor": {"at": "t", "dtype": "float32", "shape": [3]}},
    {"tensor": 3},
    {"array": {"at": "t", "dtype": "|O", "shape": [1]}},
    {"array": {"at": "t", "dtype": "<f8", "shape": [9]}},
    {"array": {"at": "t", "dtype": "<f8,<f8", "shape": [1]}},
    {"array": {"at": "empty", "dtype": "<f8", "shape": [1 << 40]}},
    {"numpy": ["<f8", "00"]},
    {"numpy": ["O", "00"]},
    {"int": "0x"},
    {"float": "ff"},
    {"text": "!"},
    {"bytes": "###"},
    {"enum": ["os:system", "x"]},
    {"enum": ["antigravity:Colour", "RED"]},
    {"enum": ["os:path.join", "x"]},
    {"enum": ["enum:Enum", "x"]},
    {"items": [[1]]},
    {"items": [[[1], 2]]},
    {"set": [[1]]},
    {"dtype": "nn.Linear"},
    {"device": "nowhere:1"},
    {"defaultdict": ["eval", []]},
    {"complex": [1]},
    {"deque": 5},
    {"size": ["a"]},
]


@pytest.mark.parametrize("node", MALFORMED, ids=lambda node: json.dumps(node)[:50])
def test_a_tree_that_was_not_encoded_is_malformed(node):
    """A poisoned tree ends in one error; it imports nothing and calls nothing."""
    tensors = {"t": torch.zeros(16, dtype=torch.uint8), "empty": torch.zeros(0, dtype=torch.uint8)}
    with pytest.raises(MalformedTree):
        decode(node, tensors)
    assert "antigravity" not in sys.modules


numbers = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(allow_nan=False)
)
text = st.text(st.characters(exclude_categories=()), max_size=8)
keys = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        text,
        st.binary(max_size=4),
    ),
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)),
    max_leaves=4,
)
tensors = st.builds(
    lambda shape, dtype, seed: (
        torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 9
    ).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(
        [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
    ),
    st.integers(0, 99),
)
arrays = st.builds(
    np.ones,
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["<f4", ">i8", "|b1", "<c16", "<U3"]),
)
leaves = st.one_of(
    numbers,
    text,
    st.binary(max_size=8),
    tensors,
    arrays,
    st.sampled_from([*Colour, Level.LOW, torch.int8]),
)
states = st.recursive(
    st.one_of(leaves, st.sets(keys, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(text, inner, max_size=3).map(OrderedDict),
        st.lists(inner, max_size=3).map(lambda items: deque(items, maxlen=3)),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(states)
def test_any_tree_round_trips_equal(state):
    """Whatever tree hypothesis builds comes back the same."""
    assert alike(again(state), state)


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "tensor",
                    "array",
                    "items",
                    "ordered",
                    "enum",
                    "numpy",
                    "size",
                    "at",
                    "set",
                    "dict",
                    "deque",
                ]
            ),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=10,
)


@settings(deadline=None, max_examples=150)
@given(json_values)
def test_any_json_either_decodes_or_is_malformed(node):
    """Decoding never ends in another error than MalformedTree."""
    with contextlib.suppress(MalformedTree):
        decode(node, {"t": torch.zeros(4)})
