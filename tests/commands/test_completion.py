"""Tab completion: the replies, and a real bash that asks for them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtrl_surgery.commands import COMMANDS, record
from mtrl_surgery.commands.completion import SCRIPTS, query
from mtrl_surgery.methods.registry import ALIASES, METHODS

CAGRAD_KEYS = sorted(f"method.{field.name}=" for field in dataclasses.fields(METHODS["cagrad"].config))


def test_commands():
    assert query("mtrl-surgery ") == [*COMMANDS, "--help", "--version"]
    assert query("mtrl-surgery tr") == ["train"]
    assert query("python -m mtrl_surgery tr") == ["train"]
    assert query("/usr/bin/python3 -m mtrl_surgery tr") == ["train"]


@pytest.mark.parametrize(
    ("line", "replies"),
    {
        "train method=": [f"method={name}" for name in sorted([*METHODS, *ALIASES])],
        "train critic_method=fam": ["critic_method=famo"],
        "train env=mt1": ["env=mt1", "env=mt10"],
        "train method=cagrad method.": CAGRAD_KEYS,
        "train agent.hid": ["agent.hidden_sizes="],
        "train total": ["total_steps="],
        "train -m method=ls,sa": ["method=ls,samgs"],
        "train -m sweep.cp": ["sweep.cpus="],
        "train -m sweep.cpus=2 method=ls,sa": ["method=ls,samgs"],
        "methods pcg": ["pcgrad"],
        "evaluate ch": ["checkpoint="],
        "record f": ["fps=", "format="],
        "record checkpoint=runs/a ": [f"{field.name}=" for field in dataclasses.fields(record.Arguments)],
        "export ": ["checkpoint=", "out=", "format="],
        "report p": ["published=", "png=", "parts="],
        "sweep st": ["status", "stop"],
        "sweep stop ": [],
        "completion ": list(SCRIPTS),
        "nonsense ": [],
    }.items(),
)
def test_replies(line: str, replies: list[str]):
    assert query(f"mtrl-surgery {line}") == replies


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_replies(command: str):
    assert query(f"mtrl-surgery {command} ")


def test_groups_and_keys_of_the_root():
    replies = query("mtrl-surgery train ")
    assert {"method=", "env=", "agent=", "experiment=", "seed=", "total_steps=", "evaluation."} <= set(replies)
    assert not [reply for reply in replies if reply.startswith("hydra")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("mtrl-surgery train method=sam", ["samgs "]),
        pytest.param("mtrl-surgery train me", ["method.", "method="], marks=pytest.mark.slow),
        ("python -m mtrl_surgery ev", ["evaluate "]),
        ("mtrl-surgery record checkpoint=runs/a ca", ["camera="]),
    ],
)
def test_bash_completes(line: str, replies: list[str], tmp_path: Path):
    for name, words in {"mtrl-surgery": "-m mtrl_surgery", "python": ""}.items():
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)
    script = (
        'eval "$(mtrl-surgery completion bash)"\n'
        f"COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n"
        '_mtrl_surgery "${COMP_LINE%% *}"\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
        "complete -p mtrl-surgery"
    )
    root = Path(__file__).parents[2]
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [*replies, "complete -o nospace -F _mtrl_surgery mtrl-surgery"]
