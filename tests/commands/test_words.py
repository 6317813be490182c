"""Paths are taken as they are typed; the keys' words; plugins; what is printed to be pasted."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hypothesis import given, settings
from hypothesis import strategies as st

import mtrl_surgery
from benchmarks.__main__ import TABLE
from benchmarks.page import Arguments as Page
from experiments_vision.commands.check import Arguments as Check
from experiments_vision.commands.table import Arguments as Table
from experiments_vision.settings import VisionSettings
from experiments_vision.toy.config import ToySettings
from mtrl_surgery.cli.composition import expand
from mtrl_surgery.cli.words import keys_of, path_of, split_paths
from mtrl_surgery.commands.dashboard import Arguments as Dashboard
from mtrl_surgery.commands.evaluate import Arguments as Evaluate
from mtrl_surgery.commands.export import Arguments as Export
from mtrl_surgery.commands.program import TRAIN, compose
from mtrl_surgery.commands.record import Arguments as Record
from mtrl_surgery.commands.report import Arguments as Report
from mtrl_surgery.methods import plugins
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import METHOD_KEYS, TrainSettings
from mtrl_surgery.sweeps.plan import SweepOptions
from tests.commands.conftest import Run

ROOT = Path(__file__).parents[2]
SCHEMAS = (
    *(TrainSettings, VisionSettings, ToySettings, SweepOptions, Evaluate, Export, Record, Report, Dashboard),
    *(
        Check,
        Table,
        Page,
        *(import_module(benchmark.module).Arguments for benchmark in TABLE.commands.values()),
    ),
)
ODD = "a,b #1 ü 'q\" {x} ${HOME} $y (z) [0] k=v ~ \\ %s"


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.__module__)
def test_every_key_has_its_words(schema: type) -> None:
    assert [name for name, key in keys_of(schema).items() if len(key.words) < 5] == []


def test_every_key_that_names_a_file_or_a_folder_is_a_path() -> None:
    names = {"out", "resume", "folder", "checkpoint", "data_dir", "json", "csv", "page", "ratios"}
    for schema in SCHEMAS:
        for name, key in keys_of(schema).items():
            assert key.is_path == (name.rpartition(".")[2] in names), f"{schema.__name__}.{name}"


@settings(max_examples=15, deadline=None)
@given(st.text("ab \\'\"${}[](),=:#%ü?*~.-1", min_size=1, max_size=9).filter(lambda text: text[0] not in "~?"))
def test_a_path_goes_through_hydra_as_it_was_typed(text: str) -> None:
    assert compose([f"out={text}"]).out == text


def test_a_path_is_no_choice_of_a_sweep() -> None:
    words = [f"out={ODD}", "method=ls,samgs"]
    found = expand(TRAIN, words)
    assert [one.words for one in found] == [(words[0], "method=ls"), (words[0], "method=samgs")]


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert compose(["out=~/runs"]).out == path_of("~/runs") == "/home/somebody/runs"
    assert split_paths(["~/a", "title=~", "./x=y"], Report) == (["/home/somebody/a", "./x=y"], ["title=~"])


def pasted(line: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=250, env=environment)


@pytest.mark.slow
def test_a_run_in_an_odd_folder_ends_with_commands_that_work(run: Run) -> None:
    said = run("train", "experiment=smoke", f"out={ODD}")
    assert said.code == 0, said.err
    (folder,) = Path(ODD).iterdir()
    assert "1.0 |" in said.err and "*" in said.err, "the learning curve"
    lines = re.findall(r": (\S+ -m mtrl_surgery .*)$", said.err, flags=re.MULTILINE)
    assert [shlex.split(line)[3] for line in lines] == ["report", "evaluate"]
    for line in lines:
        done = pasted(line)
        assert done.returncode == 0, done.stderr
    assert Path("report.html").is_file() and list(folder.glob("evaluation-*.json"))
    again = run("train", f"resume={folder}", "total_steps=500")
    assert again.code == 0, again.err


@pytest.fixture
def readme_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """README's block as my_methods.py, and its command's words."""
    text = (ROOT / "README.md").read_text()
    block = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[-1]
    (tmp_path / "my_methods.py").write_text(block)
    monkeypatch.setenv(plugins._INHERITED, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    (command,) = re.findall(r"^python -m mtrl_surgery (train .*plugins=.*)$", text, flags=re.MULTILINE)
    yield command
    sys.modules.pop("my_methods", None)
    METHODS.pop("unit", None)
    for group in METHOD_KEYS:
        ConfigStore.instance().repo[group].pop("unit.yaml", None)


def test_readmes_method_goes_through_the_command_line(run: Run, readme_methods: str) -> None:
    said = run(*readme_methods.split())
    assert said.code == 0, said.err
    (folder,) = Path("runs").glob("*unit*")
    assert "plugins:\n- my_methods\n" in (folder / "config.yaml").read_text()
    environment = {key: value for key, value in os.environ.items() if key != plugins._INHERITED}
    words = ["-m", "mtrl_surgery", "train", f"resume={folder}", "total_steps=450"]
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=250,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "unit" in run("methods", "plugins=my_methods").out


def test_an_installed_packages_entry_point_brings_its_methods(tmp_path: Path) -> None:
    """A package as pip leaves it: a module, and the metadata that names it in the group."""
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)[-1]
    (tmp_path / "their_methods.py").write_text(block)
    metadata = tmp_path / "their_methods-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-methods\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mtrl_surgery.methods]\ntheirs = their_methods\n")
    done = subprocess.run(
        [sys.executable, "-m", "mtrl_surgery", "methods", "unit"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    assert done.returncode == 0 and "gradients of length one" in done.stdout, done.stderr


@pytest.mark.slow
def test_every_run_of_a_sweep_has_the_plugins(readme_methods: str, tmp_path: Path) -> None:
    words = ["train", "-m", "experiment=smoke", "plugins=my_methods", "method=unit,ls", "sweep.report=false"]
    done = subprocess.run(
        [sys.executable, "-m", "mtrl_surgery", *words],
        capture_output=True, text=True, timeout=280, cwd=tmp_path, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stored = [RunFolder.open(path) for path in (tmp_path / "runs").glob("classic_*")]
    assert {run.config()["method"]["name"] for run in stored} == {"unit", "ls"}
    assert all(run.manifest()["status"] == "finished" for run in stored)


def test_the_package_says_what_it_has() -> None:
    assert {"Surgery", "load_runs"} <= set(dir(mtrl_surgery)) and set(mtrl_surgery.__all__) <= set(dir(mtrl_surgery))


@pytest.mark.parametrize(
    ("text", "parts"),
    {"x = 1\nimport nothing_like_it\n": ["nothing_like_it", "line 2"], "def f(:\n": ["SyntaxError", "line 1"]}.items(),
)
def test_a_module_that_cannot_be_imported_is_a_sentence(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, parts: list[str]
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_methods.py").write_text(text)
    said = run("methods", "plugins=broken_methods")
    assert said.code == 2 and said.err.count("\n") == 1
    assert all(part in said.err for part in ["plugins=broken_methods", "broken_methods.py", *parts]), said.err


def test_a_missing_dependency_is_a_sentence(tmp_path: Path) -> None:
    # An interpreter without site-packages: what a bare system's python is.
    for program in ("mtrl_surgery", "experiments_vision"):
        command = [sys.executable, "-S", "-m", program, "train"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert "has no package" in done.stderr and "-m pip install -e " in done.stderr


def test_a_working_folder_that_was_deleted_is_a_sentence(tmp_path: Path) -> None:
    line = f"cd {tmp_path} && mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m mtrl_surgery methods"
    done = pasted(line)
    assert done.returncode == 2 and "working folder was deleted" in done.stderr and "Traceback" not in done.stderr
