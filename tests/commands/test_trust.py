"""A run folder from elsewhere runs no code that is not the user's own, unless `trust=true` says so."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrl_surgery.__main__ import main
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.trust import check_trusted
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.settings import env_imports, settings_from_mapping
from tests.commands.conftest import SMALL, Run, Said
from tests.commands.test_train import FACTORY

STORED = "own_trusted_tasks"


MORE = """
import os, pathlib
from os import system
number = 3
pathlib.Path(__file__).with_name("ran").touch()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run with a factory of the user's own, and the folder of that."""
    library, out = tmp_path_factory.mktemp("library"), tmp_path_factory.mktemp("runs")
    (library / f"{STORED}.py").write_text(FACTORY + MORE)
    words = ("env=factory", f"env.factory={STORED}:make", "env.tasks=[sound]", "agent.warmup_steps=100", f"out={out}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(library))
        assert main(["train", *SMALL, *words, "total_steps=100"]) == 0
    (path,) = out.iterdir()
    return path, library


@pytest.fixture
def library(trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """On Python's path; `ran` in it tells that its module was imported."""
    monkeypatch.syspath_prepend(str(trained[1]))
    sys.modules.pop(STORED, None)
    (trained[1] / "ran").unlink(missing_ok=True)
    return trained[1]


@pytest.fixture
def own(run: Run, trained: tuple[Path, Path], library: Path) -> Path:
    """A copy of the run, in the working folder."""
    return Path(shutil.copytree(trained[0], Path("runs") / trained[0].name))


def foreign(path: Path, **env: Any) -> None:
    """The folder as somebody else would write it: configuration and checkpoints agree."""
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["env"] |= env
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    newest = CheckpointStore(path / "checkpoints", 1).newest()
    assert newest is not None and newest.about is not None
    spaces = newest.about["spaces"] | {"tasks": config["env"]["tasks"]}
    CheckpointStore(path / "checkpoints", 1, {"config": config, "spaces": spaces}).save(newest.step, newest.state)


def commands(path: Path) -> dict[str, tuple[str, ...]]:
    return {
        "evaluate": ("evaluate", f"checkpoint={path}", "workers=1", "episodes=1"),
        "record": ("record", f"checkpoint={path}", "workers=1"),
        "resume": ("train", f"resume={path}", "total_steps=150"),
    }


def refused(said: Said, *parts: str) -> None:
    assert said.code == 2 and "Traceback" not in said.err, said.err
    last = said.err.splitlines()[-1]
    assert last.startswith("error: ") and "trust=true" in last and all(part in last for part in parts), last


@pytest.mark.parametrize(
    ("factory", "why"),
    [
        ("os:system", "os is a part of Python"),
        ("subprocess:call", "subprocess is a part of Python"),
        ("builtins:eval", "builtins is a part of Python"),
        ("posix:system", "posix is a part of Python"),
        ("numpy:save", "numpy is an installed package"),
        ("torch.hub:load", "torch is an installed package"),
        ("mtrl_surgery.runs.durable:remove", "mtrl_surgery is a package of this program"),
        ("nowhere.at_all:make", "there is no module 'nowhere'"),
        ("x.y;z:make", "is no module's name"),
        (f"{STORED}:system", "'system' is no function and no class"),
        (f"{STORED}:number", "'number' is no function and no class"),
        (f"{STORED}:nothing", "'nothing' is no function and no class"),
        (f"{STORED}:gymnasium", "'gymnasium' is no function and no class"),
    ],
)
def test_a_factory_that_is_not_the_users_own_is_refused(
    run: Run, own: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, why: str
) -> None:
    monkeypatch.setattr("mtrl_surgery.commands.record.find_backend", lambda: "egl")
    command = f"touch {tmp_path}/stolen"
    foreign(own, factory=factory, tasks=[command])
    for name, words in commands(own).items():
        if name != "record" or why.startswith("os "):
            refused(run(*words), factory, why)
    said = run("export", f"checkpoint={own}")
    assert said.code == 0, said.err
    assert run("report", str(own), "parts=false").code == 0
    assert not (tmp_path / "stolen").exists()
    assert (library / "ran").exists() == (STORED in factory), "a foreign name imports nothing"


def test_the_users_own_factory_runs_and_export_and_report_never_call_it(run: Run, own: Path, library: Path) -> None:
    assert run("export", f"checkpoint={own}").code == 0
    assert run("report", str(own), "parts=false").code == 0
    assert not (library / "ran").exists()
    for name, words in commands(own).items():
        if name != "record":
            assert run(*words).code == 0, name


def test_what_the_command_line_names_is_the_users_wish(
    run: Run, own: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the user's own module were installed.
    monkeypatch.setattr("mtrl_surgery.cli.trust._pythons", lambda: [str(library)])
    words = commands(own)
    refused(run(*words["evaluate"]), f"{STORED}:make", "is a part of Python")
    refused(run(*words["resume"]), f"{STORED}:make")
    assert run(*words["evaluate"], "trust=true").code == 0
    assert run(*words["evaluate"], f"env.factory={STORED}:make").code == 0
    assert run(*words["resume"], "env=factory", f"env.factory={STORED}:make", "env.tasks=[sound]").code == 0
    said = run(*words["resume"], "trust=true", "total_steps=200")
    assert said.code == 0, said.err
    assert yaml.safe_load((own / "config.yaml").read_text())["trust"] is False, "no folder says it of itself"


def test_a_folder_that_says_of_itself_that_it_is_to_be_trusted_is_not(run: Run, own: Path) -> None:
    foreign(own, factory="os:system", tasks=["true"])
    config = yaml.safe_load((own / "config.yaml").read_text())
    (own / "config.yaml").write_text(yaml.safe_dump(config | {"trust": True}))
    for name in ("evaluate", "resume"):
        refused(run(*commands(own)[name]), "os:system")


def test_another_environment_calls_no_factory_of_the_run(run: Run, own: Path, tmp_path: Path) -> None:
    foreign(own, factory="os:system", tasks=[f"touch {tmp_path}/stolen"])
    said = run(*commands(own)["evaluate"], "env=gymnasium", "env.tasks=[Pendulum-v1]")
    assert said.code == 2 and "was trained on" in said.err
    assert not (tmp_path / "stolen").exists()


def test_a_module_in_the_run_folder_itself_is_no_module_of_the_users(
    run: Run, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "evil.py").write_text(f"open({str(own)!r} + '/stolen', 'w')\ndef make(task): pass\n")
    foreign(own, factory="evil:make")
    monkeypatch.chdir(own)
    monkeypatch.syspath_prepend("")
    for name, words in commands(Path(".")).items():
        if name != "record":
            refused(run(*words), "evil lies in the run folder itself")
    assert not (own / "stolen").exists()


@pytest.mark.parametrize("task", ["{}:Env-v0", "gym:{}:Env-v0"])
def test_ids_that_import_a_module_are_under_the_same_rule(
    run: Run, own: Path, tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own / "evil.py").write_text(f"open({str(tmp_path)!r} + '/stolen', 'w')\n")
    monkeypatch.syspath_prepend(str(own))
    for module in ("antigravity", "evil"):
        foreign(own, kind="gymnasium", factory=None, tasks=[task.format(module)])
        for name in ("evaluate", "resume"):
            refused(run(*commands(own)[name]), module)
    assert run("export", f"checkpoint={own}").code == 0
    assert not (tmp_path / "stolen").exists()


def test_a_ray_cluster_that_the_folder_names_is_not_joined(run: Run, own: Path) -> None:
    config = yaml.safe_load((own / "config.yaml").read_text())
    config["cluster"] |= {"kind": "ray", "address": "192.0.2.1:6379"}
    (own / "config.yaml").write_text(yaml.safe_dump(config))
    said = run(*commands(own)["resume"])
    refused(said, "cluster.address='192.0.2.1:6379'")
    assert run(*commands(own)["resume"], "cluster.kind=inline", "cluster.address=null").code == 0


def test_modules_are_judged_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    for place in ("own/pkg", "run/inside", "own/site-packages/installed"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "own/pkg/__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own/pkg/sub.py").write_text("def make(task): pass\n")
    (tmp_path / "own/loose.py").write_text("from os.path import join\nclass Made: pass\nmake = lambda task: task\n")
    (tmp_path / "run/inside/__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own/site-packages/installed/__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "own/linked.py").symlink_to(tmp_path / "run/inside/__init__.py")
    for place in ("own", "run", "own/site-packages"):
        monkeypatch.syspath_prepend(str(tmp_path / place))
    check_trusted(["pkg.sub", "loose", "loose:Made", "loose:make"], run, False, "plugins")
    with pytest.raises(SettingsError, match="defined in posixpath, not in loose"):
        check_trusted(["loose:join"], run, False, "env")
    for name in (
        "inside",
        "inside.more",
        "linked",
        "installed",
        "pkg.nothing",
        "",
        "zipfile",
        "site",
        "encodings.idna",
    ):
        with pytest.raises(SettingsError, match="trust=true"):
            check_trusted([name], run, False, "plugins")
        check_trusted([name], run, True, "plugins")


def test_a_stored_configuration_reads_nothing_of_the_readers(own: Path) -> None:
    config = yaml.safe_load((own / "config.yaml").read_text())
    config["logger"]["project"] = "${oc.env:HOME}"
    settings = settings_from_mapping(config, own / "config.yaml")
    assert settings.logger.project == settings.to_mapping()["logger"]["project"] == "${oc.env:HOME}", "a text"


def test_the_names_of_an_environment() -> None:
    settings = settings_from_mapping({"method": {"name": "ls"}}, "x")
    assert env_imports(settings.env) == []
    settings.env.factory = "a.b:c"
    settings.env.kind, settings.env.tasks = "gymnasium", ["Pendulum-v1", "ns/E-v0", "m:E-v0", "gym:n:E-v0", "gym:P-v1"]
    assert env_imports(settings.env) == ["a.b:c", "m", "n"]


def test_plugins_that_a_folder_names_are_the_users_own_or_named_again(run: Run, own: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((own / "config.yaml").read_text())
    (own / "config.yaml").write_text(yaml.safe_dump(config | {"plugins": ["this"]}))  # a module of Python's that prints
    for words in (*commands(own).values(), ("export", f"checkpoint={own}")):
        said = run(*words)
        assert said.code == 2 and "plugins='this' would run code that is not yours" in said.err
        assert said.err.rstrip().endswith("name it yourself, plugins=this") and "Traceback" not in said.err
    assert "this" not in sys.modules
