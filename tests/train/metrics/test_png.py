"""Pictures as PNG data URIs."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from loopwright.train.metrics.png import data_uri


def decode(uri: str) -> torch.Tensor:
    """Return the picture's bytes as (H, W) or (H, W, 3), read by another implementation."""
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(body)))
    picture.load()
    values = torch.tensor(list(picture.tobytes()))
    return values.view(picture.height, picture.width, -1).squeeze(-1)


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 5, 7), (5, 7)])
def test_bytes_are_shown_as_they_are(shape):
    """Grey and coloured bytes arrive in another reader unchanged."""
    image = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = image.permute(1, 2, 0).squeeze(-1) if image.ndim == 3 else image
    assert torch.equal(decode(data_uri(image)), expected.long())


def test_floats_from_0_to_1_are_not_stretched():
    """A grey picture of one value stays that grey."""
    assert (decode(data_uri(torch.full((1, 2, 2), 0.2))) == 51).all()


def test_normalised_inputs_are_stretched():
    """Any other range goes from black to white; NaN is no crash."""
    image = torch.tensor([[[-2.0, 0.0], [2.0, 2.0]]], dtype=torch.bfloat16)
    assert decode(data_uri(image)).tolist() == [[0, 128], [255, 255]]
    assert decode(data_uri(torch.full((1, 2, 2), 3.0))).tolist() == [[0, 0], [0, 0]]
    image[0, 0, 1] = torch.nan
    assert decode(data_uri(image)).tolist() == [[0, 128], [255, 255]]


def test_large_pictures_are_averaged_down():
    """No side is longer than 128; the shape's proportion and the mean are kept."""
    image = torch.zeros(3, 512, 256)
    image[:, :, ::2] = 1.0
    small = decode(data_uri(image))
    assert small.shape == (128, 64, 3)
    assert (small == 128).all()


@pytest.mark.parametrize("shape", [(64,), (2, 8, 8), (1, 0, 8), (1, 1, 8, 8)])
def test_what_is_no_picture(shape):
    """Vectors, two channels and empty tensors give no picture."""
    assert data_uri(torch.zeros(shape)) is None
