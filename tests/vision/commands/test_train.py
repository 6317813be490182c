"""`train` from the command line: presets, sweeps, resume, and what is refused before any work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments_vision.commands.program import TRAIN
from experiments_vision.data.registry import DATASETS
from experiments_vision.settings import to_settings, validate
from mtrl_surgery.cli.composition import compose
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.runs.jsonl import read_rows
from tests.vision.conftest import Run

TINY = ("dataset.limit=128", "batch_size=32", "epochs=1", "threads=1", "logger=none", "device=cpu")


@pytest.mark.parametrize(
    ("dataset", "model", "epochs", "batch", "lr", "schedule"),
    [
        ("nyuv2", "mtan", 200, 2, 1e-4, "step"),
        ("cityscapes", "mtan", 200, 8, 1e-4, "step"),
        ("celeba", "convnet", 15, 256, 3e-4, "none"),
        ("qm9", "mpnn", 300, 120, 1e-3, "plateau"),
    ],
)
def test_a_data_set_presets_the_published_training(
    dataset: str, model: str, epochs: int, batch: int, lr: float, schedule: str
) -> None:
    settings = to_settings(compose(TRAIN, [f"dataset={dataset}", "method=ls"]))
    validate(settings)
    assert (settings.model, settings.epochs, settings.batch_size) == (model, epochs, batch)
    assert (settings.optimizer.name, settings.optimizer.lr, settings.optimizer.schedule) == ("adam", lr, schedule)


def test_every_data_set_has_a_preset() -> None:
    for name in DATASETS:
        assert to_settings(compose(TRAIN, [f"dataset={name}"])).dataset.name == name


def test_a_sweep_finds_a_finished_run_and_a_named_folder_is_begun_and_gone_on_with(run: Run, tmp_path: Path) -> None:
    assert run("train", "method=ls", *TINY).code == 0
    (folder,) = (tmp_path / "runs/vision").iterdir()
    said = run("train", "-m", "method=ls", *TINY, "sweep.report=false")
    assert said.code == 0 and "1 runs, 1 of them done before" in said.err, said.err

    mine = tmp_path / "mine"
    assert run("train", "method=ls", *TINY, f"folder={mine}").code == 0
    assert (mine / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    shutil.rmtree(mine / "checkpoints")  # as if killed before its first checkpoint
    assert run("train", "method=ls", *TINY, f"folder={mine}").code == 0
    assert (mine / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert len(RunFolder.open(mine).manifest()["resumed"]) == 1


def test_resume_goes_on_and_remembers_what_it_was_told(run: Run, tmp_path: Path) -> None:
    assert run("train", "method=cagrad", "method.c=0.2", "out=r", *TINY).code == 0
    (folder,) = (tmp_path / "r").iterdir()
    said = run("train", f"resume={folder}", "epochs=2")
    assert said.code == 0, said.err
    assert yaml.safe_load((folder / "config.yaml").read_text())["epochs"] == 2
    assert read_rows(folder / "evaluations.jsonl")[-1]["epoch"] == 2

    said = run("train", f"resume={folder}", "method=samgs")
    assert said.code == 2
    assert "method.name='cagrad' there, 'samgs' here" in said.err
    said = run("train", f"resume={folder}", "epochs=1")
    assert said.code == 2
    assert "has done 2 already" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=nyuv3"], "unknown dataset 'nyuv3'; did you mean 'nyuv2'?"),
        (["method=samg"], "did you mean 'samgs'?"),
        (["optimiser.lr=1"], "did you mean 'optimizer"),
        (["model=mtan"], "unknown model 'mtan'; choices: lenet"),
        (["epochs=0"], "epochs=0 must be at least 1"),
        (["optimizer.schedule=cosine"], "choices: none, step, plateau"),
        (["precision=float16", "device=cpu"], "precision=float16 needs CUDA"),
        (
            ["dataset=nyuv2", "features=true", "method=samgs"],
            "features=true: mtan shares parameters past its features, which method=samgs has no weights for",
        ),
        (["accumulate=3"], "accumulate=3 must divide batch_size=256"),
        (["dataset=nyuv2"], "data_dir"),
        (["dataset=nyuv2", "dataset.data_dir=/no/such/folder"], "/no/such/folder"),
        (["max_norm=0"], "max_norm=0.0 must be above 0"),
        (["dataset.limit=100"], "batch_size=256: the training split has only 100 examples"),
        (["resume=nowhere"], "nowhere is no run folder"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(words: list[str], message: str, run: Run, tmp_path: Path) -> None:
    said = run("train", *words)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err


def test_help_lists_data_sets_and_keys(run: Run) -> None:
    said = run("train", "--help")
    assert said.code == 0
    assert all(name in said.out for name in (*DATASETS, "accumulate", "samgs", "torchrun"))


@pytest.mark.cluster
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Real processes under torchrun: each has half of every batch, and the network has no batch normalisation."""
    words = [
        "method=pcgrad",
        "dataset.limit=128",
        "batch_size=32",
        "epochs=2",
        "logger=none",
        "device=cpu",
        "threads=1",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    program = ["-m", "experiments_vision", "train", *words]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, start in (("one", []), ("two", launch)):
        done = subprocess.run(
            [sys.executable, *start, *program, f"out={tmp_path / name}"],
            env=environment,
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
    (one,), (two,) = ((list((tmp_path / name).iterdir())) for name in ("one", "two"))
    alone, together = (read_rows(path / "metrics.jsonl") for path in (one, two))
    assert len(alone) == len(together) > 0
    for row, other in zip(alone, together, strict=True):
        assert other["loss"] == pytest.approx(row["loss"], rel=1e-4)
        if row["task"] is not None:
            assert other["weights"] == pytest.approx(row["weights"], rel=1e-2)
