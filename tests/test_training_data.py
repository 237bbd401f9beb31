"""Data sets from disk: small files in each real format, what is wrong with malformed ones, and what is drawn."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
import torch

from reptran_compiler.errors import BadInput
from reptran_compiler.training.data import (
    Augmentation,
    Dataset,
    Draw,
    Files,
    Normalisation,
    Stored,
    evaluation_batches,
    read_dataset,
    training_batches,
)
from reptran_compiler.training.data.augmentation import (
    BOX_NUMBERS,
    CROP_NUMBERS,
    augmented,
    central_box,
    resized_box,
)
from reptran_compiler.training.processes import Processes

Bytes = NDArray[np.uint8]


def pixels(*shape: int, seed: int = 0) -> Bytes:
    """Random bytes."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def idx(array: Bytes) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, packed: bool = False, dots: bool = False) -> dict[str, Bytes]:
    """Six training images and four test images of 5 x 7, in MNIST's four files."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {
        "train-images-idx3-ubyte": pixels(6, 5, 7),
        "train-labels-idx1-ubyte": np.array([0, 1, 2, 0, 1, 2], np.uint8),
        "t10k-images-idx3-ubyte": pixels(4, 5, 7, seed=1),
        "t10k-labels-idx1-ubyte": np.array([3, 1, 2, 0], np.uint8),
    }
    for name, array in arrays.items():
        name = name.replace("-idx", ".idx") if dots else name
        content = idx(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return arrays


def write_cifar(folder: Path, *, binary: bool) -> dict[str, tuple[Bytes, list[int]]]:
    """Three images in each of CIFAR-10's six batches."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    made = {}
    for seed, name in enumerate(names):
        data, labels = pixels(3, 3072, seed=seed), [seed, 9, 0]
        made[name] = (data, labels)
        if binary:
            records = np.concatenate([np.array(labels, np.uint8)[:, None], data], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            content = {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": [b"a.png"] * 3}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return made


def write_classes(folder: Path) -> None:
    """Two classes, with images of two sizes, in train and val."""
    image = pytest.importorskip("PIL.Image")
    for split, count in (("train", 3), ("val", 1)):
        for label, name in enumerate(("n01440764", "n01443537")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                array = np.full((20 + 4 * number, 30, 3), 100 * label + 50, np.uint8)
                image.fromarray(array).save(folder / split / name / f"{name}_{number}.JPEG")


def stored(examples: object) -> Stored:
    assert isinstance(examples, Stored)
    return examples


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dots", [False, True])
@pytest.mark.parametrize("below", [".", "MNIST/raw"])
def test_mnist(tmp_path: Path, packed: bool, dots: bool, below: str) -> None:
    arrays = write_mnist(tmp_path / below, packed=packed, dots=dots)
    found = read_dataset(tmp_path)
    assert found.classes == 4 and found.train.shape == (1, 5, 7)
    assert (stored(found.train).images[:, 0] == arrays["train-images-idx3-ubyte"]).all()
    assert stored(found.test).labels.tolist() == [3, 1, 2, 0]
    assert not stored(found.train).augmentation.flip, "digits are not mirrored"


def test_the_real_fashion_mnist() -> None:
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    found = read_dataset(folder)
    images = stored(found.train).images
    assert images.shape == (60_000, 1, 28, 28) and len(found.test.labels) == 10_000 and found.classes == 10
    assert np.bincount(found.train.labels).tolist() == [6_000] * 10
    mean, std = images.mean() / 255, images.std() / 255
    assert (found.normalisation.mean, found.normalisation.std) == ((round(mean, 4),), (round(std, 4),))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("above", [False, True])
def test_cifar(tmp_path: Path, binary: bool, above: bool) -> None:
    folder = tmp_path / f"cifar-10-batches-{'bin' if binary else 'py'}"
    made = write_cifar(folder, binary=binary)
    found = read_dataset(tmp_path if above else folder)
    assert found.classes == 10 and found.train.shape == (3, 32, 32)
    train = stored(found.train)
    assert (train.images.reshape(-1, 3072) == np.concatenate([made[f"data_batch_{i}"][0] for i in range(1, 6)])).all()
    assert train.labels.tolist() == [number for i in range(1, 6) for number in made[f"data_batch_{i}"][1]]
    assert (stored(found.test).images.reshape(-1, 3072) == made["test_batch"][0]).all()


def test_pickles_of_every_protocol_and_numpy_are_read(tmp_path: Path) -> None:
    write_cifar(tmp_path, binary=False)
    data, labels = pixels(3, 3072), np.array([1, 2, 3])
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        payload = pickle.dumps({"data": data, "labels": list(labels)}, protocol)
        for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy._core", b"numpy._core")):
            if protocol < 4:  # later ones write the length of a name in front of it
                payload = payload.replace(old, new)
            (tmp_path / "test_batch").write_bytes(payload)
            found = stored(read_dataset(tmp_path).test)
            assert (found.images.reshape(3, -1) == data).all() and found.labels.tolist() == [1, 2, 3]


class Evil:
    """Runs a function where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.place,)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    write_cifar(tmp_path, binary=False)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil(tmp_path / "ran")}))
    with pytest.raises(BadInput, match="data_batch_3 cannot be unpickled.* only arrays are read"):
        read_dataset(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_class_folders(tmp_path: Path) -> None:
    write_classes(tmp_path)
    found = read_dataset(tmp_path, size=16)
    assert found.classes == 2 and found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.test.labels.tolist() == [0, 1] and found.train.shape == (3, 16, 16)
    everything = np.arange(6, dtype=np.int64)
    for draw in (None, Draw(0, 0)):
        images = found.train.take(everything, draw)
        assert images.shape == (6, 3, 16, 16) and images.dtype == np.uint8
        assert np.abs(images[:3].astype(int) - 50).max() <= 2 and np.abs(images[3:].astype(int) - 150).max() <= 2


def test_npz(tmp_path: Path) -> None:
    images, labels = pixels(6, 3, 4, 4), np.arange(6) % 3
    np.savez(
        tmp_path / "a.npz", train_images=images, train_labels=labels, test_images=images[:2], test_labels=labels[:2]
    )
    found = read_dataset(tmp_path / "a.npz")
    assert found.classes == 3 and (stored(found.train).images == images).all()
    floats = images[:, 0].astype(np.float64)
    np.savez(tmp_path / "b.npz", x_train=floats, y_train=labels, x_test=floats, y_test=labels)
    found = read_dataset(tmp_path / "b.npz")
    assert found.train.shape == (1, 4, 4) and stored(found.train).images.dtype == np.float32


def spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of a file."""

    def act(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return act


TRAIN, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / LABELS).unlink(), "has no train-labels-idx1-ubyte"),
        (spoil(TRAIN, lambda b: b[:-1]), "truncated: 6 x 5 x 7 numbers take 210 bytes, and 209 are there"),
        (spoil(TRAIN, lambda b: b + b"\0"), "it goes on behind the 210 bytes"),
        (spoil(TRAIN, lambda b: b[:9]), "ends in its header"),
        (spoil(TRAIN, lambda b: b""), "is no IDX file"),
        (spoil(TRAIN, lambda b: b"GIF89a" + b), "is no IDX file"),
        (spoil(TRAIN, lambda b: b[:2] + b"\x0d" + b[3:]), "holds type 13 on 3 axes"),
        (spoil(TRAIN, lambda b: b[:4] + b"\xff" * 12), "its header says 4294967295 x"),
        (spoil(LABELS, lambda b: idx(np.zeros(5, np.uint8))), "holds 6 train images and 5 labels"),
        (lambda folder: (folder / TRAIN).rename(folder / "x"), "has no train-images-idx3-ubyte"),
    ],
)
def test_malformed_mnist(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    write_mnist(tmp_path)
    change(tmp_path)
    with pytest.raises(BadInput, match=words):
        read_dataset(tmp_path)


@pytest.mark.parametrize("cut", [3, 20, -6])
def test_damaged_gzip(tmp_path: Path, cut: int) -> None:
    write_mnist(tmp_path, packed=True)
    spoil(f"{TRAIN}.gz", lambda content: content[:cut])(tmp_path)
    with pytest.raises(BadInput, match="damaged or truncated"):
        read_dataset(tmp_path)


def pickled(content: object) -> Callable[[bytes], bytes]:
    """Another pickle in the place of a file."""
    return lambda _: pickle.dumps(content, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "data_batch_4").unlink(), "has no data_batch_4 and no data_batch_4.bin"),
        (spoil("data_batch_2", lambda b: b[:500]), r"data_batch_2 cannot be unpickled \(truncated\?\)"),
        (spoil("data_batch_2", lambda b: b""), "cannot be unpickled"),
        (spoil("data_batch_2", pickled([1])), "holds a pickled list"),
        (spoil("data_batch_2", pickled({b"fine_labels": [1]})), "it holds fine_labels, where data and labels"),
        (spoil("data_batch_2", pickled({b"data": pixels(3, 9), b"labels": [1, 2, 3]})), "no bytes"),
        (spoil("data_batch_2", pickled({b"data": pixels(3, 3072), b"labels": [1, 2]})), "3 images, and labels of"),
        (spoil("data_batch_2", pickled({b"data": pixels(1, 3072), b"labels": ["a"]})), "labels are no integers"),
        (spoil("data_batch_2", pickled({b"data": pixels(1, 3072), b"labels": [10]})), "labels from 10 to 10"),
    ],
)
def test_malformed_pickles(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    write_cifar(tmp_path, binary=False)
    change(tmp_path)
    with pytest.raises(BadInput, match=words):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil("test_batch.bin", lambda b: b[:-1]), "9,218 bytes are no whole number of 3,073 each"),
        (spoil("test_batch.bin", lambda b: b""), "no whole number"),
        (spoil("test_batch.bin", lambda b: b"\x0a" + b[1:]), "labels from 0 to 10"),
    ],
)
def test_malformed_binary_batches(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    write_cifar(tmp_path, binary=True)
    change(tmp_path)
    with pytest.raises(BadInput, match=words):
        read_dataset(tmp_path)


def test_malformed_class_folders(tmp_path: Path) -> None:
    write_classes(tmp_path)
    found = read_dataset(tmp_path, size=16)
    assert isinstance(found.train, Files)
    spoil(str(found.train.paths[0].relative_to(tmp_path)), lambda content: content[:200])(tmp_path)
    with pytest.raises(BadInput, match="cannot decode .*n01440764_0.JPEG"):
        found.train.take(np.array([0]), None)
    for workers in (0, 1):
        with pytest.raises(BadInput, match="^cannot decode [^\n]*n01440764_0.JPEG[^\n]*$"):
            list(training_batches(found, Draw(0, 0), 6, Processes(), workers))
    (tmp_path / "val" / "n02").mkdir()
    with pytest.raises(BadInput, match="has a class 'n02', which train has not"):
        read_dataset(tmp_path)
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="has no folder val"):
        read_dataset(tmp_path)
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(BadInput, match="sort its images into a folder for each class"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_labels": None}, "has no array train_labels .or y_train.; it has"),
        ({"train_labels": np.zeros(5, np.int64)}, r"labels int64 \[5\], where integers from 0 on, \[6\]"),
        ({"train_labels": np.zeros(6)}, "labels float64"),
        ({"train_labels": np.full(6, -1)}, "from 0 on"),
        ({"train_images": np.zeros((6, 2), np.uint8)}, r"shape \[6, 2\]"),
        ({"train_images": np.zeros((6, 4, 4), np.int64)}, "images of int64"),
        ({"train_images": np.full((6, 4, 4), np.nan)}, "NaN"),
        ({"train_images": np.zeros((6, 5, 5), np.uint8)}, "to train on and of"),
        ({"train_images": np.array([{}] * 6)}, "cannot read"),
    ],
)
def test_malformed_npz(tmp_path: Path, arrays: dict[str, NDArray[np.generic] | None], words: str) -> None:
    images, labels = pixels(6, 4, 4), np.arange(6)
    whole = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels, **arrays}
    given = {name: value for name, value in whole.items() if value is not None}
    np.savez(tmp_path / "a.npz", **given)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=words):
        read_dataset(tmp_path / "a.npz")


def test_npz_files_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(6, 4, 4))
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(BadInput, match="cannot read [^\n]*a.npz: it holds one array"):
        read_dataset(tmp_path / "a.npz")
    many = {f"{part}_{what}": np.zeros((6, 40, 40), np.uint8) for part in ("train", "test") for what in ("images", "x")}
    np.savez_compressed(tmp_path / "b.npz", **many)
    content = bytearray((tmp_path / "b.npz").read_bytes())
    start = content.index(b"train_images.npy") + len(b"train_images.npy") + 24
    content[start : start + 30] = bytes(255 - each for each in content[start : start + 30])
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(BadInput, match="cannot read [^\n]*b.npz: "):
        read_dataset(tmp_path / "b.npz")


def test_what_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing is downloaded"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="holds no data set that is known"):
        read_dataset(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK\3\4")
    with pytest.raises(BadInput, match="cannot read"):
        read_dataset(tmp_path / "a.npz")
    with pytest.raises(BadInput, match="is no data set"):
        read_dataset(__file__)


def test_draws_depend_on_seed_epoch_and_index_alone() -> None:
    everything = np.arange(1000)
    numbers = Draw(3, 5).uniform(everything, 4)
    assert (Draw(3, 5).uniform(everything[[17, 4, 900]], 4) == numbers[[17, 4, 900]]).all()
    assert (Draw(3, 5).uniform(everything, 2) == numbers[:, :2]).all()
    for other in (Draw(4, 5), Draw(3, 6), Draw(-3, 5)):
        assert (other.uniform(everything, 4) != numbers).all()
    assert sorted(Draw(3, 5).order(1000)) == list(everything)
    assert (Draw(3, 5).order(1000) != Draw(3, 6).order(1000)).any()
    assert len({Draw(3, 5).word(0), Draw(3, 5).word(1), Draw(3, 6).word(0)}) == 3


def test_draws_are_uniform_and_independent() -> None:
    numbers = np.concatenate([Draw(0, epoch).uniform(np.arange(5000), 8) for epoch in range(4)], axis=1)
    counts, _ = np.histogram(numbers, bins=50, range=(0, 1))
    expected = numbers.size / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100  # chi-square, 49 degrees of freedom: 1 in 40,000
    correlation = np.corrcoef(numbers.T) - np.eye(32)
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)
    assert np.abs((numbers[1:] - 0.5).T @ (numbers[:-1] - 0.5)).max() / 5000 * 12 < 5 / np.sqrt(5000)


def test_crops_and_flips() -> None:
    image = pixels(1, 3, 4, 5)
    padded = np.pad(image, ((0, 0), (0, 0), (2, 2), (2, 2)))
    seen = set()
    for number in range(200):
        numbers = Draw(1, 0).uniform(np.array([number]), CROP_NUMBERS)
        found = augmented(image, Augmentation(2, True), numbers)
        top, left = (int(each * 5) for each in numbers[0, :2])
        expected = padded[:, :, top : top + 4, left : left + 5]
        if numbers[0, 2] < 0.5:
            expected = expected[:, :, :, ::-1]
        assert (found == expected).all()
        seen.add((top, left, bool(numbers[0, 2] < 0.5)))
    assert len(seen) == 50, "every crop, mirrored and not"
    nothing = augmented(image, Augmentation(0, False), Draw(0, 0).uniform(np.array([0]), CROP_NUMBERS))
    assert (nothing == image).all()


def test_resized_crops() -> None:
    areas = []
    for number in range(500):
        left, top, right, bottom = resized_box(60, 40, Draw(0, 0).uniform(np.array([number]), BOX_NUMBERS)[0])
        assert 0 <= left < right <= 60 and 0 <= top < bottom <= 40
        areas.append((right - left) * (bottom - top) / 2400)
        assert 0.6 < (right - left) / (bottom - top) < 1.6, "3/4 to 4/3, but for rounding"
    assert 0.06 < min(areas) < 0.12 and max(areas) > 0.75
    left, top, right, bottom = resized_box(400, 10, np.full(BOX_NUMBERS, 0.99))
    assert (top, bottom) == (0, 10) and (right - left) == pytest.approx(40 / 3) and left + right == 400
    assert central_box(512, 256) == (144, 16, 368, 240)


def test_normalisation() -> None:
    normal = Normalisation((0.5, 0.25), (0.5, 2.0))
    images = np.array([[[[255]], [[51]]]], np.uint8)
    assert normal(images).ravel().tolist() == pytest.approx([1.0, -0.025])
    assert normal(np.ones((1, 2, 1, 1), np.float32)).ravel().tolist() == pytest.approx([1.0, 0.375])


def tiny(count: int = 11) -> Dataset:
    """Images whose one pixel is their index."""
    images = np.arange(count, dtype=np.float32).reshape(-1, 1, 1, 1)
    examples = Stored(images, np.arange(count), Augmentation(0, False))
    return Dataset("tiny", examples, examples, count, Normalisation())


def test_batches_are_full_shuffled_and_shared() -> None:
    whole = list(training_batches(tiny(), Draw(0, 0), 4, Processes()))
    assert [len(labels) for _, labels in whole] == [4, 4], "three images are left out of this epoch"
    for images, labels in whole:
        assert (images.flatten() == labels).all() and images.dtype == torch.float32
    shares = [list(training_batches(tiny(), Draw(0, 0), 4, Processes(2, rank))) for rank in (0, 1)]
    for both, first, second in zip(whole, *shares, strict=True):
        assert (both[1] == torch.cat([first[1], second[1]])).all()
    again = [labels.tolist() for _, labels in training_batches(tiny(), Draw(0, 1), 4, Processes())]
    assert again != [labels.tolist() for _, labels in whole]


def test_every_test_image_is_somebodys_once() -> None:
    seen = [
        int(label)
        for rank in range(3)
        for _, labels in evaluation_batches(tiny(), 2, Processes(3, rank))
        for label in labels
    ]
    assert sorted(seen) == list(range(11))


def test_workers_change_nothing(tmp_path: Path) -> None:
    write_cifar(tmp_path, binary=True)
    found = read_dataset(tmp_path)
    alone = list(training_batches(found, Draw(0, 0), 5, Processes()))
    helped = list(training_batches(found, Draw(0, 0), 5, Processes(), workers=2))
    for (images, labels), (others, theirs) in zip(alone, helped, strict=True):
        assert torch.equal(images, others) and torch.equal(labels, theirs)


@pytest.mark.parametrize(
    ("size", "count", "words"), [(12, 1, "choose a smaller batch"), (5, 2, "evenly"), (1, 2, "evenly")]
)
def test_batches_that_cannot_be(size: int, count: int, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        training_batches(tiny(), Draw(0, 0), size, Processes(count))
