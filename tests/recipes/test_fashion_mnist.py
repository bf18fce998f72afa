"""Fashion-MNIST and the idx format."""

from __future__ import annotations

import pytest
import torch

from loopwright.errors import DataError, UsageError
from loopwright.recipes.fashion_mnist import RandomFlip, fashion_mnist, load_part, read_pictures
from loopwright.recipes.idx import find_idx, read_idx


def test_idx_files_are_read_packed_or_not(tmp_path, write_idx):
    """What was written comes back, with and without gzip, and the unpacked one is preferred."""
    array = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    packed, plain = write_idx(tmp_path / "a.gz", array), write_idx(tmp_path / "b", array)
    assert torch.equal(read_idx(packed, 3), array)
    assert torch.equal(read_idx(plain, 3), array)
    assert find_idx(tmp_path, "a") == packed
    assert find_idx(tmp_path, "b") == plain


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "starts with 00 00 08 01; this one with nothing"),
        (b"\x89PNG\r\n", "this one with 89 50 4e 47"),
        (bytes([0, 0, 8, 3]) + bytes(12), "00 00 08 03"),
        (bytes([0, 0, 8, 1]), "starts with"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 9]) + b"abc", "9 bytes were announced and 3 follow"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1]) + b"abc", "1 bytes were announced and 3 follow"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 0]), "no sample"),
    ],
)
def test_broken_idx_files_are_refused(tmp_path, content, says):
    """Another magic number, a cut file and an empty one are errors with the file's name."""
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path, 1)
    assert caught.value.where == str(path)


def test_cut_gzip_is_refused(tmp_path, write_idx):
    """A download that broke off is an error."""
    path = write_idx(tmp_path / "a.gz", torch.zeros(100, dtype=torch.uint8))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not whole gzip"):
        read_idx(path, 1)
    path.write_bytes(b"never gzip")
    with pytest.raises(DataError, match="not whole gzip"):
        read_idx(path, 1)


def test_one_step_moves_every_parameter(clothes, learns_once):
    """A batch goes through model, loss and optimizer; a twelfth of the training part validates."""
    job = fashion_mnist(clothes, batch_size=8, width=4)
    assert learns_once(job).shape == (8, 10)
    loaders = (job.train_loader, job.valid_loader, job.test_loader)
    assert [len(loader.dataset) for loader in loaders] == [44, 4, 12]


def test_the_seed_chooses_what_validates(clothes):
    """The same seed holds out the same pictures; another seed others; the test stays."""

    def held_out(seed):
        return fashion_mnist(clothes, seed=seed).valid_loader.dataset.tensors[0]

    assert torch.equal(held_out(1), held_out(1))
    assert not torch.equal(held_out(1), held_out(2))


def test_missing_files_are_named(clothes, tmp_path):
    """A folder that is not there, and a file that is missing in it, are named."""
    with pytest.raises(UsageError, match="there is no folder"):
        fashion_mnist(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a folder"):
        fashion_mnist(clothes / "t10k-labels-idx1-ubyte")
    (clothes / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match="neither t10k-labels-idx1-ubyte nor"):
        fashion_mnist(clothes)


@pytest.mark.parametrize(
    ("name", "array", "says"),
    [
        ("t10k-labels-idx1-ubyte", torch.zeros(11), "12 pictures have 11 labels"),
        ("t10k-labels-idx1-ubyte", torch.full((12,), 10), "label 10 is not one of 0 to 9"),
        ("t10k-images-idx3-ubyte", torch.zeros(12, 8, 9), "8 x 9, not 28 x 28"),
    ],
)
def test_parts_that_do_not_fit_are_refused(clothes, write_idx, name, array, says):
    """Counts, sizes and labels are looked at before training."""
    write_idx(clothes / name, array.to(torch.uint8))
    with pytest.raises(DataError, match=says):
        load_part(clothes, "t10k")


def test_flips_happen_in_training_only():
    """About half of the pictures are mirrored; in eval mode none is."""
    flip, pictures = RandomFlip(), torch.arange(3.0).expand(400, 1, 1, 3)
    mirrored = (flip(pictures)[:, 0, 0, 0] == 2).float().mean()
    assert 0.4 < mirrored < 0.6
    assert flip.eval()(pictures) is pictures


def test_pictures_are_read_for_prediction(tmp_path):
    """A picture of any size becomes an input of the model."""
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (60, 40), "white").save(tmp_path / "a.png")
    ((name, picture),) = read_pictures(str(tmp_path / "a.png"))
    assert name.endswith("a.png")
    assert picture.shape == (1, 28, 28)
    assert picture.max() == pytest.approx((1 - 0.286) / 0.353)


def test_the_real_data_is_whole(big_data):
    """The published files give 10,000 test pictures, 1,000 of each kind."""
    folder = big_data / "fashion-mnist"
    if not folder.is_dir():
        pytest.skip("no fashion-mnist")
    pictures, labels = load_part(folder, "t10k")
    assert pictures.shape == (10_000, 1, 28, 28)
    assert labels.bincount().tolist() == [1000] * 10
