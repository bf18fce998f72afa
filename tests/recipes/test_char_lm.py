"""The character model."""

from __future__ import annotations

import math

import pytest
import torch

from loopwright.errors import DataError, UsageError
from loopwright.recipes.char_lm import CharModel, Windows, char_lm, likely_next, sample

TEXT = "To be, or not to be, that is the question:\n" * 40


@pytest.fixture
def text(tmp_path):
    """A small text file."""
    path = tmp_path / "hamlet.txt"
    path.write_text(TEXT)
    return path


def small(path, **changes):
    """Return a job with a tiny model."""
    return char_lm(path, **({"context": 16, "width": 16, "layers": 2, "heads": 2} | changes))


def test_one_step_moves_every_parameter(text, learns_once):
    """A batch goes through model, loss and optimizer, and the untrained loss is ln V."""
    job = small(text, batch_size=4)
    logits = learns_once(job)
    assert logits.shape == (4, 16, len(set(TEXT)))
    inputs, targets = next(iter(small(text).valid_loader))
    fresh = small(text)
    loss = fresh.criterion(fresh.model(inputs), targets)
    assert loss.item() == pytest.approx(math.log(len(set(TEXT))))


def test_targets_are_the_next_characters(text):
    """The target of a window is the window one character on."""
    windows = Windows(torch.arange(10), context=4, stride=4)
    assert [part.tolist() for part in windows[1]] == [[4, 5, 6, 7], [5, 6, 7, 8]]
    assert len(windows) == 2
    assert len(Windows(torch.arange(9), context=4, stride=4)) == 2
    assert len(Windows(torch.arange(8), context=4, stride=4)) == 1
    assert len(Windows(torch.arange(10), context=4, stride=1)) == 6


def test_the_parts_are_stretches_of_the_text(text):
    """90 % train, 5 % validate, 5 % test, in the order of the text, overlapping nowhere."""
    job = small(text)
    parts = [job.train_loader, job.valid_loader, job.test_loader]
    tokens = [loader.dataset.tokens for loader in parts]
    assert job.model.decode(torch.cat(tokens)) == TEXT
    assert len(tokens[0]) == int(len(TEXT) * 0.9)


def test_the_model_sees_no_future():
    """Changing a character changes no output before it, and every other after it."""
    model = CharModel(list("abcd"), context=8, width=16, layers=2, heads=2, dropout=0.0)
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.zeros(1, 8, dtype=torch.long)
    changed = tokens.clone()
    changed[0, 5] = 3
    differs = (model(tokens) - model(changed)).abs().amax(2)[0] > 1e-6
    assert differs.tolist() == [False] * 5 + [True] * 3


def test_sampling_continues_the_prompt_and_draws_from_its_own_generator(text):
    """The sample begins with the prompt, has the asked length, and moves no other draw."""
    job = small(text)
    state = torch.get_rng_state()
    written = sample(job.model, "To be", length=30, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert written.startswith("To be")
    assert len(written) == 35
    assert written == sample(job.model, "To be", length=30, seed=1)
    assert job.model.training


def test_prompts_of_unknown_characters_are_refused(text):
    """A character that the text does not have is named, before the run begins."""
    with pytest.raises(DataError, match="never seen 'é'"):
        small(text, prompt="é")


def test_lines_are_read_for_prediction(text):
    """The end of a line is the input; the answer is the next character."""
    job = small(text)
    ((name, tokens),) = job.read("to be, or not to be")
    assert name == "to be, or not to be"
    assert job.model.decode(tokens) == "be, or not to be"
    answer = likely_next(torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([97, 98]))
    assert answer["next"] == "b"


def test_the_vocabulary_is_saved_with_the_weights(text):
    """The characters are a buffer of the model."""
    saved = small(text).model.state_dict()["characters"]
    assert "".join(map(chr, saved.tolist())) == "".join(sorted(set(TEXT)))


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (None, UsageError, "there is no file"),
        (b"", UsageError, "has 0 characters"),
        (b"too short", UsageError, "has 9 characters; context=16 needs 640"),
        (b"\xff\xfe" * 1000, DataError, "not UTF-8"),
    ],
)
def test_texts_that_cannot_be_learnt_are_refused(tmp_path, content, error, says):
    """A missing, empty, short or binary file is an error before training."""
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=says):
        small(path)


def test_width_is_a_multiple_of_heads(text):
    """Heads that do not divide the width are an error that names both."""
    with pytest.raises(UsageError, match="width=16 is not an even number of times heads=3"):
        small(text, heads=3)
