"""One run folder is asked for, and a stranger made it: one line, exit code 2, and nothing is changed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.commands.conftest import Run, Said
from tests.runs.mangled import IN_ANY_FILE, IN_CONFIG, IN_MANIFEST, copied

STEP = "checkpoints/step-000000200"
Spoil = Callable[[Path], object]


def at(name: str, spoil: Spoil) -> Spoil:
    return lambda path: spoil(path / name)


def whole(path: Path) -> dict[str, bytes]:
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not file.is_symlink()]
    return {str(file): file.read_bytes() for file in files if file.stat().st_size < 1 << 24}


def refused(said: Said, *parts: str) -> None:
    assert said.code == 2 and "Traceback" not in said.err, said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ") and all(part in last for part in parts), said.err


def changed(**changes: Any) -> Spoil:
    def spoil(path: Path) -> None:
        content = yaml.safe_load((path / "config.yaml").read_text())
        for key, value in changes.items():
            group, _, name = key.rpartition("__")
            (content[group] if group else content)[name] = value
        (path / "config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    return spoil


COMMANDS = [pytest.param("evaluate"), *(pytest.param(name, marks=pytest.mark.slow) for name in ("export", "resume"))]
CONFIGS = {way: at("config.yaml", spoil) for way, spoil in (IN_ANY_FILE | IN_CONFIG).items()}
MANIFESTS = {way: at("manifest.json", spoil) for way, spoil in (IN_ANY_FILE | IN_MANIFEST).items()}


@pytest.mark.filterwarnings("ignore:skipping a checkpoint")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("ways", [CONFIGS, MANIFESTS], ids=["config.yaml", "manifest.json"])
def test_a_bad_folder_is_one_line(
    run: Run, finished: Path, tmp_path: Path, ways: dict[str, Spoil], command: str
) -> None:
    for number, (way, spoil) in enumerate(ways.items()):
        path = copied(finished, tmp_path / f"run{number}", spoil)  # type: ignore[arg-type]
        before = whole(path)
        words = {
            "evaluate": ("evaluate", f"checkpoint={path}", "workers=1", "episodes=1"),
            "export": ("export", f"checkpoint={path}"),
            "resume": ("train", f"resume={path}", "total_steps=250"),
        }[command]
        said = run(*words)
        assert said.code == 2, (way, said)
        refused(said, str(path))
        assert whole(path) == before, way
        shutil.rmtree(path)


@pytest.mark.filterwarnings("ignore:skipping a checkpoint")
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "arrays.safetensors"])
def test_a_bad_checkpoint_is_one_line(run: Run, finished: Path, tmp_path: Path, name: str) -> None:
    ways = {way: spoil for way, spoil in IN_ANY_FILE.items() if way != "UTF-16" or name.endswith("json")}
    for number, (way, spoil) in enumerate(ways.items()):
        path = copied(finished, tmp_path / f"run{number}", at(f"{STEP}/{name}", spoil))  # type: ignore[arg-type]
        said = run("evaluate", f"checkpoint={path}/{STEP}", "workers=1", "episodes=1")
        assert said.code == 2, (way, said)
        refused(said, name)
        shutil.rmtree(path)


def forged(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Spoil:
    """A checkpoint whose hashes are right all the same: `change` gets the manifest's content and the state."""

    def spoil(path: Path) -> None:
        folder = path / STEP
        content, state = (json.loads((folder / name).read_text()) for name in ("manifest.json", "state.json"))
        content = content["content"]
        change(content, state)
        text = json.dumps(state).encode()
        (folder / "state.json").write_bytes(text)
        if isinstance(content.get("files"), dict) and isinstance(content["files"].get("state.json"), dict):
            content["files"]["state.json"] = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps({"sha256": digest, "content": content}))

    return spoil


FORGED: dict[str, Spoil] = {
    "no step": forged(lambda content, state: content.pop("step")),
    "a step that is none": forged(lambda content, state: content.update(step=-1)),
    "no files": forged(lambda content, state: content.pop("files")),
    "files: a list": forged(lambda content, state: content.update(files=[])),
    "another file": forged(lambda content, state: content["files"].update({"../../config.yaml": {"size": 1}})),
    "segments: texts": forged(lambda content, state: content.update(segments=["a"])),
    "about: a text": forged(lambda content, state: content.update(about="x")),
    "another format": forged(lambda content, state: content.update(format=[2])),
    "spaces: a text": forged(lambda content, state: content["about"].update(spaces="x")),
    "endless spaces": forged(lambda content, state: content["about"]["spaces"].update(observation=2**50)),
    "other tasks": forged(lambda content, state: content["about"]["spaces"].update(tasks=["a"])),
    "a configuration that is none": forged(lambda content, state: content["about"].update(config={"x": 1})),
    "an empty state": forged(lambda content, state: (state.clear(), state.update(dict={}))),
    "no policy": forged(lambda content, state: state["dict"].pop("policy_weights")),
    "a policy of text": forged(lambda content, state: state["dict"].update(policy_weights="x")),
    "another policy": forged(
        lambda content, state: state["dict"].update(policy_weights=state["dict"]["positions"]["items"][0])
    ),
    "a node that is none": forged(lambda content, state: state["dict"].update(x={"lambda": 1})),
    "a node of texts": forged(lambda content, state: state["dict"].update(x={"dict": "abc"})),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("way", sorted(FORGED))
@pytest.mark.filterwarnings("ignore:skipping a checkpoint")
def test_a_forged_checkpoint_is_one_line(run: Run, finished: Path, tmp_path: Path, way: str, command: str) -> None:
    path = copied(finished, tmp_path / "run", FORGED[way])  # type: ignore[arg-type]
    shutil.rmtree(path / "checkpoints" / "step-000000100")
    words = {
        "evaluate": ("evaluate", f"checkpoint={path}", "workers=1", "episodes=1"),
        "export": ("export", f"checkpoint={path}"),
        "resume": ("train", f"resume={path}", "total_steps=250"),
    }[command]
    refused(run(*words))


def overwritten(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"updates":', b'"updatez":', 1))


ROWS_SPOILED = {**IN_ANY_FILE, "lost": Path.unlink, "overwritten": overwritten}


@pytest.mark.parametrize(
    ("name", "ways"),
    [("metrics.jsonl", list(ROWS_SPOILED)), ("evaluations.jsonl", ["pipe", "UTF-16", "a list", "lost", "overwritten"])],
)
@pytest.mark.filterwarnings("ignore:removed a half-written")
def test_rows_that_are_not_the_checkpoints_are_named_by_resume(
    run: Run, finished: Path, tmp_path: Path, name: str, ways: list[str]
) -> None:
    for number, way in enumerate(ways):
        spoil = ROWS_SPOILED[way]
        path = copied(finished, tmp_path / f"run{number}", at(name, spoil))  # type: ignore[arg-type]
        before = whole(path)
        said = run("train", f"resume={path}", "total_steps=250")
        assert said.code == 2, (way, said)
        refused(said, name)
        assert whole(path) == before, way
        shutil.rmtree(path)


def test_a_health_log_that_is_no_file_is_named_by_resume(run: Run, finished: Path, tmp_path: Path) -> None:
    for way in ("pipe", "folder", "circle of links", "device", "terabytes of holes"):
        path = copied(finished, tmp_path / way.partition(" ")[0], at("health.jsonl", IN_ANY_FILE[way]))  # type: ignore[arg-type]
        refused(run("train", f"resume={path}", "total_steps=250"), "health.jsonl")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (changed(agent__tau=0.1), ["agent.tau was 0.005 and is 0.1"]),
        (changed(agent__batch_size=7), ["agent.batch_size was", "and is 7"]),
        (changed(cluster__chunk_steps=25), ["cluster.chunk_steps was 50 and is 25"]),
        (changed(seed=3), ["seed was 0 and is 3"]),
        (changed(method={"name": "samgs"}), ["method.name was 'ls' and is 'samgs'"]),
        (changed(actor_method={"name": "ls"}), ["actor_method.name was None and is 'ls'"]),
        (
            changed(env__tasks=["MountainCarContinuous-v0", "Pendulum-v1"]),
            ["env.tasks was ['Pendulum-v1', 'MountainCarContinuous-v0'] and is ['MountainCarContinuous-v0', "],
        ),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(
    run: Run, finished: Path, tmp_path: Path, spoil: Spoil, parts: list[str]
) -> None:
    path = copied(finished, tmp_path / "run", spoil)  # type: ignore[arg-type]
    before = whole(path)
    for words in (
        ("evaluate", f"checkpoint={path}", "workers=1", "episodes=1"),
        ("evaluate", f"checkpoint={path}/{STEP}", "workers=1", "episodes=1"),
        ("export", f"checkpoint={path}"),
        ("train", f"resume={path}", "total_steps=250"),
    ):
        refused(run(*words), "does not belong to this configuration", *parts)
    assert whole(path) == before


def test_what_may_differ_on_resume_may_differ(run: Run, finished: Path, tmp_path: Path) -> None:
    spoil = changed(total_steps=210, device="auto", log_every=10, checkpoint__keep=1, evaluation__episodes=2)
    path = copied(finished, tmp_path / "run", spoil)  # type: ignore[arg-type]
    assert run("evaluate", f"checkpoint={path}", "workers=1", "episodes=1").code == 0
    said = run("train", f"resume={path}", "evaluation.every=0")
    assert said.code == 0, said.err
    assert json.loads((path / "manifest.json").read_text())["status"] == "finished"
    assert run("train", f"resume={path}", "total_steps=220").code == 0


def test_a_renamed_checkpoint_is_not_deleted_by_the_resume_that_uses_it(
    run: Run, finished: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(finished, tmp_path / "run"))
    renamed = path / "checkpoints" / "step-000000999"
    (path / STEP).rename(renamed)
    said = run("train", f"resume={path}", "total_steps=200")
    assert said.code == 0 and renamed.is_dir(), said.err
