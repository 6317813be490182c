"""Starting and submitting a run: the scripts that every launcher ends in, and every train command that we tell."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from mtrl_surgery import PACKAGES
from tests.cluster.launch.launching import (
    LAUNCH,
    PAGES,
    REPOSITORY,
    bash,
    check_composes,
    finished,
    recorded,
    stand_in,
    train_commands,
)

FILES = sorted(path for folder in (LAUNCH, PAGES) for path in folder.rglob("*") if path.is_file())
TOLD = [
    pytest.param(words, id=f"{path.name}-{index}")
    for path in FILES
    if path.suffix != ".json"
    for index, words in enumerate(train_commands(path.read_text()))
]


def test_every_launcher_tells_a_train_command():
    telling = {parameter.id.rpartition("-")[0] for parameter in TOLD}
    assert {"ray-up.md", "kuberay.md", "slurm.md", "submit.md"} <= telling


@pytest.mark.parametrize("words", TOLD)
def test_the_command_composes(words: list[str]):
    check_composes(words)


@pytest.mark.parametrize("script", sorted(LAUNCH.glob("*.s[hb]*")), ids=lambda path: path.name)
def test_scripts_parse(script: Path):
    assert finished(bash("-n", script)) == (0, "", "")


def test_start_trains_and_a_second_start_goes_on_with_the_newest_run(tmp_path: Path):
    stand_in(tmp_path, "python", "echo $$")
    out = tmp_path / "runs of mine"
    words = [LAUNCH / "start.sh", out, "env=mt10", "method=pcgrad", "cluster.workers=3"]
    code, process, err = finished(bash(*words, path=tmp_path))
    assert (code, err) == (0, "")
    assert (out / "driver.pid").read_text() == process, "who stops the run has another process's id"
    first = recorded(tmp_path, "python")
    assert first[:3] == ["-m", "mtrl_surgery", "train"] and first[-1] == "cluster.workers=3"
    check_composes(first[3:])

    (out / "mt10_pcgrad_s0_0a1b2c3d" / "checkpoints").mkdir(parents=True)  # ended before its first checkpoint
    run = out / "mt10_pcgrad_s0_0a1b2c3d-2"
    (run / "checkpoints" / "step-000002000").mkdir(parents=True)
    (tmp_path / "python.words").unlink()
    finished(bash(*words, path=tmp_path))
    assert recorded(tmp_path, "python") == [*first, f"resume={run}"]


def test_start_wants_a_folder_first(tmp_path: Path):
    code, _, err = finished(bash(LAUNCH / "start.sh", "env=mt10", cwd=tmp_path))
    assert code == 2 and "usage:" in err and not list(tmp_path.iterdir())


def test_submit_hands_ray_a_job_that_it_takes(tmp_path: Path):
    from ray.dashboard.modules.job.cli import submit

    stand_in(tmp_path, "ray", 'echo "$PWD $RAY_AUTH_MODE $RAY_API_SERVER_ADDRESS"')
    words = [LAUNCH / "submit.sh", "/runs/a", "env=mt50", "env.tasks=[]"]
    code, said, _ = finished(bash(*words, path=tmp_path, cwd=tmp_path))
    assert (code, said.split()) == (0, [str(REPOSITORY), "token", "http://127.0.0.1:8265"])
    job, verb, *options = recorded(tmp_path, "ray")
    assert (job, verb) == ("job", "submit")
    parsed = submit.make_context("submit", options).params
    assert parsed["working_dir"] == "." and (REPOSITORY / parsed["runtime_env"]).is_file()
    assert list(parsed["entrypoint"]) == ["bash", "cluster/launch/start.sh", "/runs/a", "env=mt50", "env.tasks=[]"]


def test_what_ray_uploads_of_a_clone_is_far_below_its_limit(tmp_path: Path):
    from ray._private.runtime_env.packaging import create_package

    clone, archive = tmp_path / "clone", tmp_path / "package.zip"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0")[:-1]:
        if (REPOSITORY / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, clone / name)
    heavy = ["runs/a/checkpoints/step-1/arrays", ".venv/lib/torch.so", ".git/objects/pack", "seen/easy3.mp4"]
    for name in heavy:
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes(bytes(1000))
    excludes = yaml.safe_load((LAUNCH / "runtime-env.yaml").read_text())["excludes"]
    # Ray also heeds .gitignore; our own list has to do without it, as in a copy that is no clone
    create_package(str(clone), archive, include_gitignore=False, excludes=excludes)
    names = zipfile.ZipFile(archive).namelist()
    needed = {f"{package}/__init__.py" for package in PACKAGES}
    assert needed | {"cluster/launch/start.sh", "configs/train.yaml"} <= set(names)
    assert not [name for name in names if name in heavy or name.startswith(("docs/", "tests/"))]
    assert archive.stat().st_size < 5 * 2**20, "Ray's limit is 100 MiB; this clone's code is below one"
