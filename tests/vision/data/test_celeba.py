"""CelebA: what is read, what `check` finds, and that it finds nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments_vision.contract import SPLITS, Place
from experiments_vision.data.celeba import CelebASource
from experiments_vision.data.registry import DataConfig
from experiments_vision.data.source import Fault, make_source
from experiments_vision.errors import VisionError
from tests.vision.data.trees import write_celeba

ATTRIBUTES, PARTITION, IMAGES = "Anno/list_attr_celeba.txt", "Eval/list_eval_partition.txt", "Img/img_align_celeba"


def source(folder: Path, **options: object) -> CelebASource:
    made = make_source(DataConfig(name="celeba", data_dir=str(folder), **options))  # type: ignore[arg-type]
    assert isinstance(made, CelebASource)
    return made


def fatal(faults: list[Fault]) -> dict[str, str]:
    return {fault.path: fault.what for fault in faults if fault.fatal}


def line(number: int, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Changes one line of a text file, counted from 1."""

    def damage(path: Path) -> None:
        lines = path.read_text().splitlines()
        lines[number - 1] = change(lines[number - 1])
        path.write_text("\n".join(lines) + "\n")

    return damage


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_examples_are_the_files(tmp_path: Path) -> None:
    write_celeba(tmp_path, train=4, val=2, test=3)
    made = source(tmp_path)
    assert made.splits() == SPLITS
    assert [len(made.dataset(split)) for split in SPLITS] == [4, 2, 3]
    image, targets = made.dataset("val")[Place(0, 1)]  # 000006.jpg, in line 8 of the attributes
    with Image.open(tmp_path / IMAGES / "000006.jpg") as picture:
        small = picture.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    assert torch.equal(image, expected)
    signs = (tmp_path / ATTRIBUTES).read_text().splitlines()[7].split()
    assert signs[0] == "000006.jpg"
    assert targets["attributes"].tolist() == [float(sign == "1") for sign in signs[1:]]
    assert targets["attributes"].dtype == torch.float32


def test_the_order_of_the_lists_does_not_matter(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    _, before = source(tmp_path).dataset("train")[Place(0, 2)]
    lines = (tmp_path / ATTRIBUTES).read_text().splitlines()
    (tmp_path / ATTRIBUTES).write_text("\n".join([*lines[:2], *reversed(lines[2:])]))
    _, after = source(tmp_path).dataset("train")[Place(0, 2)]
    assert torch.equal(before["attributes"], after["attributes"])


def test_a_whole_tree_has_warnings_of_the_counts_alone(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    faults = source(tmp_path).check()
    assert [str(fault) for fault in faults] == [
        f"{tmp_path / PARTITION}: train has 4 pictures; published 162,770",
        f"{tmp_path / PARTITION}: val has 2 pictures; published 19,867",
        f"{tmp_path / PARTITION}: test has 2 pictures; published 19,962",
    ]
    assert fatal(faults) == {}


@pytest.mark.parametrize(
    ("file", "damage", "named", "what"),
    [
        (f"{IMAGES}/000003.jpg", os.remove, "", "missing: "),
        (f"{IMAGES}/000003.jpg", cut, "", "damaged: "),
        (f"{IMAGES}/000008.jpg", lambda path: path.write_bytes(b""), "", "damaged: "),
        (f"{IMAGES}/000008.jpg", lambda path: Image.new("RGB", (9, 9)).save(path, "PNG"), "", "damaged: "),
        (ATTRIBUTES, os.remove, "", "missing"),
        (ATTRIBUTES, line(1, lambda _: "9"), ":1", "counts '9' pictures; 8 lines follow"),
        (ATTRIBUTES, line(2, lambda text: text.replace(" Young", "")), ":2", "names 39 attributes"),
        (ATTRIBUTES, line(2, lambda text: text.replace("Bald Bangs", "Bangs Bald")), ":2", "names other attributes"),
        (ATTRIBUTES, line(5, lambda text: text.rstrip().rsplit(" ", 1)[0].rstrip()), ":5", "000003.jpg has 39"),
        (ATTRIBUTES, line(5, lambda text: text + "1"), ":5", "000003.jpg has 41 attributes; expected 40"),
        (ATTRIBUTES, line(10, lambda text: text[:11] + " 0" + text[13:]), ":10", "000008.jpg has an attribute '0'"),
        (ATTRIBUTES, line(4, lambda text: text[:13] + "\x00" + text[13:]), ":4", "000002.jpg has an attribute"),
        (PARTITION, os.remove, "", "missing"),
        (PARTITION, lambda path: path.write_text(""), "", "empty: names no picture"),
        (PARTITION, line(6, lambda text: text.replace(" 1", " 3")), ":6", "000006.jpg is in '3'"),
        (PARTITION, line(6, lambda text: text.replace(" 1", "")), ":6", "000006.jpg is in ''"),
        (PARTITION, line(2, lambda text: text + "\n" + text), ":3", "000002.jpg is named twice"),
        (PARTITION, line(2, lambda text: text + "\n../../etc 0"), ":3", "'../../etc' is no file name"),
    ],
)
def test_check_names_exactly_the_planted_fault(
    tmp_path: Path, file: str, damage: Callable[[Path], None], named: str, what: str
) -> None:
    write_celeba(tmp_path)
    damage(tmp_path / file)
    faults = [fault for fault in source(tmp_path).check() if fault.fatal]
    assert [fault.path for fault in faults] == [f"{tmp_path / file}{named}"]
    assert faults[0].what.startswith(what)
    with pytest.raises(VisionError, match=f"{file}{named}: {what[:7]}"):
        read_all(source(tmp_path))


def read_all(made: CelebASource) -> None:
    for split in SPLITS:
        examples = made.dataset(split)
        for index in range(len(examples)):
            examples[Place(0, index)]


def test_a_picture_that_nobody_listed(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    line(4, lambda text: text + "\n000099.jpg 2")(tmp_path / PARTITION)
    assert fatal(source(tmp_path).check()) == {
        f"{tmp_path / PARTITION}:5": f"000099.jpg has no line in {tmp_path / ATTRIBUTES}",
        str(tmp_path / IMAGES / "000099.jpg"): f"missing: {tmp_path / PARTITION}:5 names it",
    }


def test_what_is_not_used_is_a_warning(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    line(4, lambda text: "")(tmp_path / PARTITION)
    faults = source(tmp_path).check()
    assert fatal(faults) == {}
    assert f"{tmp_path / ATTRIBUTES}: names 1 pictures that are in no split" in map(str, faults)
    assert f"{tmp_path / IMAGES / '000004.jpg'}: not used: in no split" in map(str, faults)


def test_a_picture_of_another_size_is_a_warning(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    Image.new("L", (30, 40)).save(tmp_path / IMAGES / "000001.jpg")
    faults = source(tmp_path).check()
    assert f"{tmp_path / IMAGES / '000001.jpg'}: is 30x40; published 178x218" in map(str, faults)
    assert fatal(faults) == {}
    assert source(tmp_path).dataset("train")[Place(0, 0)][0].shape == (3, 64, 64)


def test_an_empty_split_is_a_fault(tmp_path: Path) -> None:
    write_celeba(tmp_path, val=0)
    assert fatal(source(tmp_path).check()) == {
        str(tmp_path / PARTITION): "val has 0 pictures; published 19,867",
    }


def test_a_missing_folder_of_pictures(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    (tmp_path / IMAGES).rename(tmp_path / "elsewhere")
    assert list(fatal(source(tmp_path).check())) == [str(tmp_path / IMAGES)]
    with pytest.raises(VisionError, match="img_align_celeba: missing: no such folder"):
        source(tmp_path).dataset("train")


def test_limit_and_validation(tmp_path: Path) -> None:
    write_celeba(tmp_path)
    assert [len(source(tmp_path, limit=3).dataset(split)) for split in SPLITS] == [3, 2, 2]
    with pytest.raises(VisionError, match=r"validation=0.1: celeba has a validation split of its own"):
        source(tmp_path, validation=0.1)
