"""NYUv2 and Cityscapes: what is read, what `check` finds, and that it finds nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from experiments_vision.contract import Place, Split
from experiments_vision.data.dense import DenseSource
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import Fault, make_source
from experiments_vision.errors import VisionError
from experiments_vision.training.batches import load
from tests.vision.data.trees import CLASSES, write_cityscapes, write_nyuv2


def source(folder: Path, name: str = "nyuv2", **options: object) -> DenseSource:
    made = make_source(DataConfig(name=name, data_dir=str(folder), **options))  # type: ignore[arg-type]
    assert isinstance(made, DenseSource)
    return made


def fatal(faults: list[Fault]) -> dict[str, str]:
    return {fault.path: fault.what for fault in faults if fault.fatal}


def edit(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(path, change(np.load(path)))


def set_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return change


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 8)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"12345678")


def pickle_objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


class Trap:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_examples_are_the_files(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    made = source(tmp_path, augment=False)
    assert made.splits() == ("train", "test")
    assert (len(made.dataset("train")), len(made.dataset("test"))) == (4, 2)
    folders: dict[Split, str] = {"train": "train", "test": "val"}
    for split, folder in folders.items():
        image, targets = made.dataset(split)[Place(0, 1)]
        kinds = {name: np.load(tmp_path / folder / name / "1.npy") for name in ("image", "label", "depth", "normal")}
        assert torch.equal(image, torch.from_numpy(kinds["image"]).permute(2, 0, 1))
        assert torch.equal(targets["label"], torch.from_numpy(kinds["label"]).long())
        assert torch.equal(targets["depth"][0], torch.from_numpy(kinds["depth"])[..., 0])
        assert torch.equal(targets["normal"], torch.from_numpy(kinds["normal"]).permute(2, 0, 1))
        assert image.dtype == targets["depth"].dtype == targets["normal"].dtype == torch.float32
        assert list(targets) == ["label", "depth", "normal"]


@pytest.mark.parametrize("labels", sorted(CLASSES))
def test_cityscapes_reads_the_labels_asked_for(tmp_path: Path, labels: str) -> None:
    write_cityscapes(tmp_path, labels=(labels,))
    made = source(tmp_path, "cityscapes", labels=labels, augment=False)
    assert made.facts["classes"] == CLASSES[labels]
    assert fatal(made.check()) == {}
    _, targets = made.dataset("test")[Place(0, 0)]
    assert list(targets) == ["label", "depth"]
    expected = np.load(tmp_path / "val" / labels / "0.npy")
    assert torch.equal(targets["label"], torch.from_numpy(expected).long())


def test_a_whole_tree_has_warnings_of_size_alone(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    assert [(fault.path, fault.fatal) for fault in source(tmp_path).check()] == [
        (str(tmp_path / "train"), False),
        (str(tmp_path / "val"), False),
        (str(tmp_path), False),
    ]


def test_published_counts_and_size_have_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cityscapes(tmp_path, train=3, val=2)
    made = source(tmp_path, "cityscapes")
    monkeypatch.setattr(type(made), "published", {"train": 3, "val": 2})
    monkeypatch.setattr(type(made), "size", (32, 64))
    assert made.check() == []


@pytest.mark.parametrize(
    ("file", "damage", "what"),
    [
        ("train/depth/2.npy", os.remove, "missing"),
        ("train/image/3.npy", os.remove, "missing"),  # the last of its kind
        ("val/label/0.npy", os.remove, "missing"),
        ("train/image/0.npy", cut, "damaged or cut short"),
        ("val/normal/1.npy", lengthen, "damaged"),
        ("train/label/1.npy", lambda path: path.write_bytes(b""), "damaged"),
        ("train/label/1.npy", lambda path: path.write_bytes(b"PK\x03\x04 and more"), "damaged"),
        ("train/normal/0.npy", pickle_objects, "damaged or cut short, or no .npy file of numbers"),
        ("train/depth/0.npy", lambda path: np.save(path, np.zeros((32, 64, 1), complex)), "wrong dtype"),
        ("train/depth/1.npy", lambda path: np.save(path, np.zeros((32, 64, 1), np.uint16)), "wrong dtype"),
        ("train/image/1.npy", lambda path: edit(path, lambda a: (a * 255).astype(np.uint8)), "wrong dtype"),
        ("train/depth/3.npy", lambda path: edit(path, lambda a: a[..., 0]), "wrong shape"),
        ("val/image/0.npy", lambda path: edit(path, lambda a: np.moveaxis(a, -1, 0)), "wrong shape"),
        ("train/normal/2.npy", lambda path: edit(path, lambda a: a[:-1]), "wrong shape: 31x64"),
        ("train/image/2.npy", lambda path: edit(path, lambda a: a[:0]), "wrong shape"),
        ("train/label/0.npy", lambda path: edit(path, set_first(13)), "out of range"),
        ("train/label/0.npy", lambda path: edit(path, set_first(-2)), "out of range"),
        ("train/label/0.npy", lambda path: edit(path, set_first(1.5)), "out of range"),
        ("val/label/1.npy", lambda path: edit(path, set_first(np.nan)), "out of range"),
        ("val/depth/1.npy", lambda path: edit(path, set_first(np.inf)), "out of range"),
        ("train/image/3.npy", lambda path: edit(path, set_first(np.nan)), "out of range"),
    ],
)
def test_check_names_exactly_the_planted_file(
    tmp_path: Path, file: str, damage: Callable[[Path], None], what: str
) -> None:
    write_nyuv2(tmp_path)
    before = {fault for fault in source(tmp_path).check() if not fault.fatal}
    damage(tmp_path / file)
    faults = source(tmp_path).check()
    planted = [fault for fault in faults if fault.fatal]
    assert [fault.path for fault in planted] == [str(tmp_path / file)]
    assert planted[0].what.startswith(what)
    assert {fault for fault in faults if not fault.fatal} == before
    with pytest.raises(VisionError, match=file):
        read_all(source(tmp_path))


def read_all(made: DenseSource) -> None:
    splits: tuple[Split, ...] = ("train", "test")
    for split in splits:
        examples = made.dataset(split)
        for index in range(len(examples)):
            examples[Place(0, index)]


def test_a_missing_number_is_a_gap_in_every_folder(tmp_path: Path) -> None:
    write_nyuv2(tmp_path, train=6)
    names = ("image", "label", "depth", "normal")
    for name in names:
        for number in (1, 2):
            os.remove(tmp_path / "train" / name / f"{number}.npy")
    expected = {str(tmp_path / "train" / name / "1.npy"): "missing, and all up to 2.npy" for name in names}
    assert fatal(source(tmp_path).check()) == expected
    with pytest.raises(VisionError, match=r"1\.npy: missing.*3 more faults"):
        source(tmp_path).dataset("train")


def test_a_stray_number_makes_no_endless_list(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    path = tmp_path / "train" / "image" / "999999999.npy"
    np.save(path, np.load(tmp_path / "train" / "image" / "0.npy"))
    assert len(fatal(source(tmp_path).check())) == 4


def test_missing_folders_are_named_with_what_is_there(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, labels=("label_19",))
    faults = fatal(source(tmp_path, "cityscapes").check())
    assert list(faults) == [str(tmp_path / split / "label_7") for split in ("train", "val")]
    assert all("there are depth, image, label_19" in what for what in faults.values())
    assert fatal(source(tmp_path / "train", "cityscapes").check()) == {
        str(tmp_path / "train" / split): "missing: no such folder" for split in ("train", "val")
    }


def test_files_with_other_names_are_warned_of(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    strange = [tmp_path / "val" / "depth" / name for name in ("00.npy", "1.npz", "x.npy")]
    for path in strange:
        path.write_bytes(b"")
    (tmp_path / "val" / "depth" / ".DS_Store").write_bytes(b"")
    warned = [fault.path for fault in source(tmp_path).check() if "not used" in fault.what]
    assert warned == [str(path) for path in strange]
    assert fatal(source(tmp_path).check()) == {}


def test_suspicious_values_are_warned_of(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    edit(tmp_path / "train" / "image" / "2.npy", lambda array: array * 255)
    edit(tmp_path / "val" / "depth" / "1.npy", set_first(-1))
    faults = [fault for fault in source(tmp_path).check() if "values" in fault.what]
    assert [fault.path for fault in faults] == [
        str(tmp_path / "train" / "image" / "2.npy"),
        str(tmp_path / "val" / "depth" / "1.npy"),
    ]
    assert not any(fault.fatal for fault in faults)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    trap = tmp_path / "sprung"
    np.save(tmp_path / "train" / "image" / "0.npy", np.array([Trap(trap)], dtype=object), allow_pickle=True)
    source(tmp_path).check()
    with pytest.raises(VisionError, match="Python objects"):
        source(tmp_path).dataset("train")
    assert not trap.exists()


@pytest.mark.parametrize("validation", [0.25, 2])
def test_validation_is_held_out_of_train(tmp_path: Path, validation: float) -> None:
    write_nyuv2(tmp_path, train=8)

    def pictures(seed: int, split: Split) -> list[bytes]:
        examples = source(tmp_path, validation=validation, seed=seed, augment=False).dataset(split)
        return [examples[Place(0, index)][0].numpy().tobytes() for index in range(len(examples))]

    train, val = pictures(0, "train"), pictures(0, "val")
    whole = source(tmp_path, augment=False).dataset("train")
    assert (len(train), len(val)) == (6, 2)
    assert sorted(train + val) == sorted(whole[Place(0, index)][0].numpy().tobytes() for index in range(8))
    assert val == pictures(0, "val")
    assert all(val == pictures(seed, "val") for seed in (1, 2, 3))


def test_validation_and_test_are_never_augmented(tmp_path: Path) -> None:
    write_nyuv2(tmp_path, train=8)
    made = source(tmp_path, validation=2)
    for split in ("val", "test"):
        examples = made.dataset(split)
        images = [examples[Place(epoch, 0)][0] for epoch in range(5)]
        assert all(torch.equal(image, images[0]) for image in images)
    train = made.dataset("train")
    assert not all(torch.equal(train[Place(epoch, 0)][0], train[Place(0, 0)][0]) for epoch in range(5))


def test_limit_takes_the_first(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    limited, whole = source(tmp_path, limit=1).dataset("train"), source(tmp_path).dataset("train")
    assert len(limited) == 1
    assert torch.equal(limited[Place(3, 0)][0], whole[Place(3, 0)][0])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_make_the_same_batches(tmp_path: Path, workers: int) -> None:
    write_nyuv2(tmp_path)
    examples = source(tmp_path).dataset("train")
    places = [[Place(epoch, index), Place(epoch, 3 - index)] for epoch in (0, 7) for index in (2, 0)]

    def batches(count: int) -> list[torch.Tensor]:
        loader = DataLoader(examples, batch_sampler=places, num_workers=count)
        return [tensor for image, targets in loader for tensor in (image, *targets.values())]

    for here, there in zip(batches(0), batches(workers), strict=True):
        assert torch.equal(here, there)


def test_a_worker_names_the_damaged_file(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    cut(tmp_path / "train" / "depth" / "3.npy")
    made = source(tmp_path)
    batches = load(made, made.dataset("train"), iter([(0, np.array([3]))]), workers=1, device=torch.device("cpu"))
    with pytest.raises(VisionError, match=r"train/depth/3\.npy: damaged or cut short"):
        next(batches)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "label_8"}, "labels=label_8.*label_2, label_7, label_19, label"),
        ({"validation": -0.1}, "validation=-0.1"),
        ({"validation": float("nan")}, "validation=nan"),
        ({"validation": 1.5}, "validation=1.5"),
        ({"limit": 0}, "limit=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(VisionError, match=message):
        source(tmp_path, "cityscapes", **options)


@pytest.mark.parametrize("validation", [0.01, 4, 100])
def test_a_held_out_split_that_leaves_nothing(tmp_path: Path, validation: float) -> None:
    write_nyuv2(tmp_path)
    with pytest.raises(VisionError, match=f"validation={validation}: holds out"):
        source(tmp_path, validation=validation).dataset("val")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_nyuv2(tmp_path)
    with pytest.raises(VisionError, match="split='val': nyuv2 has train, test; set validation"):
        source(tmp_path).dataset("val")
    with pytest.raises(VisionError, match="no such folder"):
        source(tmp_path / "nowhere").check()
