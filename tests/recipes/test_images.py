"""Pictures in one folder per class."""

from __future__ import annotations

import sys

import pytest
import torch

from loopwright.errors import DataError, UsageError
from loopwright.recipes.images import Augment, Normalise, images, load_folder
from loopwright.recipes.pictures import picture_files, read_picture

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def pets(tmp_path):
    """Twelve red cats and twelve blue dogs of several sizes and formats."""
    folder = tmp_path / "pets"
    for name, colour in (("cat", "red"), ("dog", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            suffix = (".png", ".jpg", ".gif")[number % 3]
            size = (20 + number, 40 - number)
            Image.new("RGB", size, colour).save(folder / name / f"{number:02d}{suffix}")
    return folder


def small(folder, **changes):
    """Return a job with a tiny model."""
    return images(folder, **({"size": 16, "width": 4, "batch_size": 8} | changes))


def test_one_step_moves_every_parameter(pets, learns_once):
    """A batch goes through augmentation, model, loss and optimizer."""
    job = small(pets)
    assert learns_once(job).shape == (8, 2)
    assert job.classes == ["cat", "dog"]


def test_every_class_is_in_every_part(pets):
    """The parts are divided class by class, and share no picture."""
    job = small(pets)
    parts = [job.train_loader, job.valid_loader, job.test_loader]
    counts = [loader.dataset.tensors[1].bincount(minlength=2).tolist() for loader in parts]
    assert [sum(column) for column in zip(*counts, strict=True)] == [12, 12]
    assert all(min(count) >= 1 for count in counts)


def test_pictures_are_brought_to_one_form(pets):
    """Whatever size and format, a picture is uint8 with three channels, labelled by its folder."""
    pictures, labels, classes = load_folder(pets, 16)
    assert (pictures.shape, pictures.dtype) == ((24, 3, 16, 16), torch.uint8)
    assert classes == ["cat", "dog"]
    red, blue = pictures[labels == 0].float(), pictures[labels == 1].float()
    assert red[:, 0].mean() > 250
    assert red[:, 2].mean() < 5
    assert blue[:, 2].mean() > 250


def test_pictures_are_turned_upright(tmp_path):
    """The orientation that a camera noted is applied."""
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png", 32, mode="L")
    assert picture[0, 0].max() == 0
    assert picture[0, -1].min() == 255


def test_the_training_part_alone_sets_the_scale(pets):
    """Mean and deviation are those of the training pictures."""
    job = small(pets)
    wanted = Normalise(job.train_loader.dataset.tensors[0])
    assert torch.equal(job.model[0].mean, wanted.mean)


def test_augmentation_is_for_training():
    """Pictures change while training, each differently; in eval mode they do not."""
    augment, pictures = Augment(), torch.rand(1, 3, 16, 16).expand(4, -1, -1, -1)
    changed = augment(pictures)
    assert changed.shape == pictures.shape
    assert changed.isfinite().all()
    assert not torch.allclose(changed[0], changed[1])
    assert augment.eval()(pictures) is pictures


def test_pictures_are_read_for_prediction(pets):
    """A file or a folder gives inputs of the model, named by their paths."""
    job = small(pets)
    read = list(job.read(str(pets)))
    assert len(read) == 24
    ((name, picture),) = job.read(str(pets / "cat" / "00.png"))
    assert name.endswith("00.png")
    assert torch.equal(picture, read[0][1])
    assert job.answer(torch.tensor([0.0, 5.0]))["label"] == "dog"


def test_broken_pictures_are_named(pets):
    """A cut file and one that is no picture are errors before training, with their names."""
    path = pets / "dog" / "03.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"dog/03\.png .*cannot be read"):
        small(pets)
    path.write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        small(pets)


def test_folders_that_are_not_classes_are_refused(pets, tmp_path):
    """A missing folder, one class, a class without pictures, and folders of parts are errors."""
    with pytest.raises(UsageError, match="there is no folder"):
        small(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds 0 folder\(s\)"):
        small(pets / "cat")
    (pets / "bird").mkdir()
    with pytest.raises(UsageError, match=r"there is no picture in .*bird"):
        small(pets)
    (tmp_path / "parts").mkdir()
    pets.rename(tmp_path / "parts" / "train")
    (tmp_path / "parts" / "test").mkdir()
    with pytest.raises(UsageError, match="are parts, not classes: test, train"):
        small(tmp_path / "parts")


def test_tiny_sizes_are_refused(pets):
    """The model halves the size three times."""
    with pytest.raises(UsageError, match="size=8 is too small"):
        small(pets, size=8)


def test_missing_pictures_are_refused(tmp_path):
    """A path that is not there is an error."""
    with pytest.raises(UsageError, match="there is no file or folder"):
        picture_files(tmp_path / "a.png")


def test_without_pillow_the_extra_is_named(pets, monkeypatch):
    """Where Pillow is not installed, the error says how to install it."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"pip install 'loopwright\[recipes\]'"):
        small(pets)
