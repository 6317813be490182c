"""`check` from the command line, on trees with a planted fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments_vision.data.registry import DATASETS
from tests.vision.conftest import Run
from tests.vision.data import trees
from tests.vision.data.planted import PLANTS


def test_a_whole_tree_passes_with_a_warning_about_its_size(run: Run, tmp_path: Path) -> None:
    trees.write_nyuv2(tmp_path / "nyu", train=4, val=2)
    said = run("check", "dataset=nyuv2", f"data_dir={tmp_path / 'nyu'}")
    assert said.code == 0
    assert "795" in said.out
    assert "fault" not in said.out


def test_a_damaged_file_is_named_and_fails(run: Run, tmp_path: Path) -> None:
    trees.write_nyuv2(tmp_path / "nyu", train=4, val=2)
    broken = tmp_path / "nyu/train/depth/2.npy"
    broken.write_bytes(broken.read_bytes()[:-7])
    said = run("check", "dataset=nyuv2", f"data_dir={tmp_path / 'nyu'}")
    assert said.code == 1
    assert "1 fault" in said.out
    assert "2.npy" in said.out
    assert "3.npy" not in said.out


@pytest.mark.parametrize("name", PLANTS)
def test_planted_faults_are_named_and_nothing_else(name: str, run: Run, tmp_path: Path) -> None:
    planted = PLANTS[name](tmp_path / "data")
    said = run("check", f"dataset={name}", f"data_dir={tmp_path / 'data'}")
    assert said.code == 1
    assert f"{name}: {len(planted)} fault" in said.out
    faults = [line for line in said.out.splitlines() if line.startswith("  ") and "warning: " not in line]
    assert sorted(line.split(": ")[0].strip() for line in faults) == sorted(planted)


def test_a_damaged_file_names_itself_while_training(run: Run, tmp_path: Path) -> None:
    trees.write_celeba(tmp_path / "faces", train=16, val=4, test=4)
    picture = sorted((tmp_path / "faces/Img/img_align_celeba").iterdir())[3]
    picture.write_bytes(picture.read_bytes()[:200])
    words = ("batch_size=8", "epochs=1", "threads=1", "device=cpu", "logger=none")
    for workers in (0, 2):
        said = run("train", "dataset=celeba", f"dataset.data_dir={tmp_path / 'faces'}", f"workers={workers}", *words)
        assert said.code == 2
        assert picture.name in said.err
        assert "Traceback" not in said.err


def test_the_bundled_set_needs_no_folder(run: Run) -> None:
    assert run("check", "dataset=multidigits").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "dataset= is missing; choices: nyuv2"),
        (["dataset=nyu"], "did you mean 'nyuv2'?"),
        (["dataset=nyuv2"], "data_dir"),
        (["dataset=nyuv2", "data_dir=/none"], "/none: no such folder"),
        (["dataset=multidigits", "lines=0"], "lines=0 must be at least 1"),
        (["nyuv2"], "cannot read 'nyuv2': write KEY=VALUE"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(words: list[str], message: str, run: Run) -> None:
    said = run("check", *words)
    assert said.code == 2
    assert message in said.err


def test_the_data_sets_are_listed_with_their_licences(run: Run) -> None:
    said = run("datasets")
    assert said.code == 0
    assert all(name in said.out and entry.licence in said.out for name, entry in DATASETS.items())
    assert run("datasets", "all").code == 2


@pytest.mark.parametrize("command", ["check", "datasets", "table", "toy", "train"])
def test_every_command_has_help(command: str, run: Run) -> None:
    said = run(command, "--help")
    assert said.code == 0
    assert "usage:" in said.out
