"""Ways in which a stranger's run folder can differ from one of ours: each spoils one file of a good folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Spoil = Callable[[Path], None]

WHOLE = ("config.yaml", "manifest.json")
ROWS = ("metrics.jsonl", "evaluations.jsonl", "conflicts.jsonl", "health.jsonl")
_DEEP = 100_000


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 42)  # of holes


IN_ANY_FILE: dict[str, Spoil] = {
    "pipe": _pipe,
    "folder": _folder,
    "circle of links": _circle,
    "device": _device,
    "terabytes of holes": _huge,
    "another encoding": lambda path: path.write_bytes(path.read_bytes().replace(b"e", b"\xe9\xff", 1)) and None,
    "UTF-16": lambda path: path.write_bytes(path.read_text().encode("utf-16")) and None,
    "zero bytes": lambda path: path.write_bytes(b"\0" * 5 + b"\n" + path.read_bytes()) and None,
    "noise": lambda path: path.write_bytes(bytes(range(256)) * 40 + b"\n") and None,
    "deep lists": lambda path: path.write_text('{"a": ' + "[" * _DEEP + "]" * _DEEP + "}\n") and None,
    "lists of some depth": lambda path: path.write_text('{"a": ' + "[" * 500 + "]" * 500 + "}\n") and None,
    "a list": lambda path: path.write_text("[1, 2]\n") and None,
    "a number": lambda path: path.write_text("3\n") and None,
    "an endless number": lambda path: path.write_text('{"step": ' + "9" * 4000 + "}\n") and None,
    "a longer number": lambda path: path.write_text('{"step": ' + "9" * 9000 + "}\n") and None,
}


def _config(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(path: Path) -> None:
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    return spoil


def _put(*keys: str | int, value: Any) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def _text(line: str) -> Spoil:
    return lambda path: path.write_text(path.read_text() + line + "\n") and None


BOMB = "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)
)])  # fmt: skip

IN_CONFIG: dict[str, Spoil] = {
    "alias bomb": _text(BOMB),
    "itself": _text("loop: &loop [*loop]"),
    "a python object": _text("x: !!python/object/apply:os.system [echo]"),
    "a date": _text("day: 2001-01-01"),
    "bytes": _text("x: !!binary aGVsbG8="),
    "a number as key": _text("5: x"),
    "a list as key": _text("? [a]\n: x"),
    "half a character": _text('x: "\\ud800"'),
    "bad yaml": _text("x: [1"),
    "total_steps: 1e6": _config(_put("total_steps", value="1e6")),
    "total_steps: .inf": _config(_put("total_steps", value=float("inf"))),
    "total_steps: -1": _config(_put("total_steps", value=-1)),
    "total_steps: 10^400": _config(_put("total_steps", value=10**400)),
    "total_steps: a list": _config(_put("total_steps", value=[3])),
    "seed: a text": _config(_put("seed", value="zero")),
    "seed: a list": _config(_put("seed", value=[0])),
    "env: a text": _config(_put("env", value="mt10")),
    "env.name: a list": _config(_put("env", "name", value=["x"])),
    "env.tasks: a text": _config(_put("env", "tasks", value="reach-v3")),
    "env.tasks: numbers": _config(_put("env", "tasks", value=[1, 2, 3])),
    "env.tasks: a name twice": _config(_put("env", "tasks", value=["reach-v3", "reach-v3", "push-v3"])),
    "env.num_goals: a text": _config(_put("env", "num_goals", value="many")),
    "method: a text": _config(_put("method", value="ls")),
    "method: nameless": _config(_put("method", value={"beta": 1})),
    "method.name: a list": _config(_put("method", "name", value=["ls"])),
    "evaluation: a list": _config(_put("evaluation", value=[1])),
}


def _manifest(change: Callable[[dict[str, Any]], object]) -> Spoil:
    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


IN_MANIFEST: dict[str, Spoil] = {
    "no status": _manifest(lambda content: content.pop("status")),
    "no resumed": _manifest(lambda content: content.pop("resumed")),
    "no id": _manifest(lambda content: content.pop("id")),
    "status: null": _manifest(_put("status", value=None)),
    "status: a word": _manifest(_put("status", value="done")),
    "status: a list": _manifest(_put("status", value=["finished"])),
    "started: a number": _manifest(_put("started", value=3)),
    "resumed: a number": _manifest(_put("resumed", value=3)),
    "resumed: numbers": _manifest(_put("resumed", value=[1])),
    "half": lambda path: path.write_text(path.read_text()[:50]) and None,
    "empty": lambda path: path.write_text("") and None,
    "half a character": lambda path: path.write_text(path.read_text().replace("{", '{"x": "\\ud800",', 1)) and None,
}

_CUT = '{"step":100,"network":"critic","update":1,"tasks":["reach-v3","push-v3","door-open-v3"],"looks":3'
IN_ROWS: dict[str, dict[str, Spoil]] = {
    "metrics.jsonl": {
        "step: null": _text('{"step":null,"task":null,"updates":1}'),
        "step: a text": _text('{"step":"9","task":null}'),
        "step: half": _text('{"step":1.5,"task":null}'),
        "step: negative": _text('{"step":-1,"task":null}'),
        "step: 2^70": _text(f'{{"step":{2**70},"task":null}}'),
        "no step": _text('{"task":null,"critic/conflict_rate":0.5}'),
        "task: a list": _text('{"step":300,"task":["reach-v3"]}'),
        "half a character": _text('{"step":300,"task":"\\ud83d"}'),
        "no json": _text("nonsense"),
        "an empty line": _text(""),
        "10^4000 of something": _text(f'{{"step":300,"task":null,"critic/mean_cosine":{10**4000}}}'),
        "a mapping of some depth": _text('{"step":300,"task":null,"x":' + '{"a":' * 90 + "1" + "}" * 91),
    },
    "evaluations.jsonl": {
        "step: null": _text('{"step":null,"task":"reach-v3","episodes":4,"successes_any":1,"successes_last":1}'),
        "episodes: a text": _text('{"step":1,"task":"reach-v3","episodes":"4","successes_any":1,"successes_last":1}'),
        "episodes: negative": _text('{"step":1,"task":"reach-v3","episodes":-4,"successes_any":1,"successes_last":1}'),
        "successes: null": _text('{"step":1,"task":"reach-v3","episodes":4,"successes_any":null,"successes_last":1}'),
        "no successes": _text('{"step":1,"task":"reach-v3","episodes":4}'),
        "more successes": _text('{"step":1,"task":"reach-v3","episodes":4,"successes_any":9,"successes_last":1}'),
        "infinite successes": _text(
            '{"step":1,"task":"reach-v3","episodes":4,"successes_any":1e999,"successes_last":1}'
        ),
        "no task": _text('{"step":1,"episodes":4,"successes_any":1,"successes_last":1}'),
        "task: null": _text('{"step":1,"task":null,"episodes":4,"successes_any":1,"successes_last":1}'),
        "a score as text": _text('{"step":1,"task":"reach-v3","split":"test","epoch":1,"pooled/accuracy":"1e6"}'),
        "split: a list": _text('{"step":1,"task":"reach-v3","split":["test"],"epoch":1}'),
    },
    "conflicts.jsonl": {
        "step: null": _text(_CUT.replace("100", "null") + ',"cosine":[0,0,0],"similarity":[0,0,0],"conflict":[0,0,0]}'),
        "ragged": _text(_CUT + ',"cosine":[0,0],"similarity":[0,0,0],"conflict":[0,0,0]}'),
        "nested": _text(_CUT + ',"cosine":[0,[0],0],"similarity":[0,0,0],"conflict":[0,0,0]}'),
        "texts": _text(_CUT + ',"cosine":["0",0,0],"similarity":[0,0,0],"conflict":[0,0,0]}'),
        "a measure is missing": _text(_CUT + ',"cosine":[0,0,0]}'),
        "other tasks": _text('{"step":100,"network":"critic","tasks":["a","b"],"cosine":[0],"similarity":[0]}'),
        "only other tasks": lambda path: (
            path.write_text('{"step":1,"network":"critic","tasks":["a","b"],"x":[0]}\n') and None
        ),
        "a task twice": _text('{"step":100,"network":"critic","tasks":["a","a"],"cosine":[0]}'),
        "tasks: a text": _text('{"step":100,"network":"critic","tasks":"ab","cosine":[0]}'),
        "no tasks": _text('{"step":100,"network":"critic","cosine":[0]}'),
        "no network": _text('{"step":100,"tasks":["a","b"],"cosine":[0]}'),
        "network: a list": _text('{"step":100,"network":[1],"tasks":["a","b"],"cosine":[0]}'),
    },
    "health.jsonl": {
        "step: null": _text('{"step":null}'),
        "time: a text": _text('{"step":1,"time":"now"}'),
        "time: NaN": _text('{"step":1,"time":NaN}'),
        "wall_s: null": _text('{"step":1,"wall_s":null}'),
        "rate: a list": _text('{"step":1,"steps_per_s":[1]}'),
        "rate: infinite": _text('{"step":1,"steps_per_s":1e999}'),
        "epoch: a text": _text('{"epoch":"1"}'),
        "an event that is a list": _text('{"step":1,"event":["end"]}'),
    },
}


def _without(name: str) -> Spoil:
    return lambda path: (path / name).unlink()


def _at(name: str, spoil: Spoil) -> Spoil:
    return lambda path: spoil(path / name)


def _renamed(path: Path) -> None:
    """To bytes that are no text."""
    os.rename(os.fsencode(path), os.fsencode(path.parent) + b"/\xff\xfe")


FOLDERS: dict[str, Spoil] = {
    **{f"{name}: {way}": _at(name, spoil) for name in (*WHOLE, *ROWS) for way, spoil in IN_ANY_FILE.items()},
    **{f"config.yaml: {way}": _at("config.yaml", spoil) for way, spoil in IN_CONFIG.items()},
    **{f"manifest.json: {way}": _at("manifest.json", spoil) for way, spoil in IN_MANIFEST.items()},
    **{f"{name}: {way}": _at(name, spoil) for name, ways in IN_ROWS.items() for way, spoil in ways.items()},
    **{f"no {name}": _without(name) for name in WHOLE},
    "a name that is no text": _renamed,
}
"""Each spoils a run folder so that it has to be left out."""

HARMLESS: dict[str, Spoil] = {
    "config.yaml: a byte order mark": lambda path: (
        (path / "config.yaml").write_bytes(b"\xef\xbb\xbf" + (path / "config.yaml").read_bytes()) and None
    ),
    "no rows": lambda path: [(path / name).unlink() for name in ROWS] and None,
    "a torn row": lambda path: (path / "metrics.jsonl").open("a").write('{"step":9') and None,
    "more keys": _at("config.yaml", _config(_put("agent", "more", value={"a": [1, None, "x"]}))),
    "more in a manifest": _at("manifest.json", _manifest(_put("more", value=[{"a": 1}]))),
}


def copied(good: Path, to: Path, spoil: Spoil) -> Path:
    """A copy of a good folder, spoiled."""
    shutil.copytree(good, to)
    spoil(to)
    return to
