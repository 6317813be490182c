"""The benchmark's steps make the gradients that they say, its memory is that of tensors, its table has every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import benchmarks.vision as cases
from benchmarks.timing import LEAST_ROUNDS, peak_bytes, take_turns
from benchmarks.vision import CASES, Case, main, make_case, make_steps
from experiments_vision.errors import VisionError
from experiments_vision.models.convolutional import ConvNet
from experiments_vision.models.mtan import MTAN
from mtrl_surgery.cli.schema import SettingsError


def small(name: str) -> Case:
    """A case with a narrow network, in float64: two forward passes round to the same side of a ReLU's kink."""
    case = make_case(name, 2, (32, 32), "cpu")
    if name == "celeba":
        case.model = ConvNet(case.objective.tasks, widths=(16,) * 7)
    elif name == "mtan":
        case.model = MTAN(case.objective.tasks, 13, filters=(16,) * 5)
    case.model.double()
    case.inputs = case.inputs.double()
    case.targets = {key: value.double() if value.is_floating_point() else value for key, value in case.targets.items()}
    return case


@pytest.mark.parametrize("name", ["celeba", "mtan"])
def test_all_exact_steps_leave_the_gradients_of_their_tasks(name: str) -> None:
    case = small(name)
    roles, steps = case.roles(), make_steps(case, ["pcgrad", "samgs"], [0.5])
    assert "pcgrad features=" in steps
    assert ("samgs features=" in steps) == (name == "celeba")  # mtan: down and up are past the features
    assert [step for step in steps if "bound" in step] == ["pcgrad bound=0.5"]
    listed, stacked = steps["list"](), steps["stacked"]()
    assert len(listed) == len(stacked) == case.num_tasks  # type: ignore[arg-type]
    steps["plain"]()
    own = [[parameter.grad.clone() for parameter in group] for group in roles.own]  # type: ignore[union-attr]
    total = [parameter.grad.clone() for parameter in roles.shared]  # type: ignore[union-attr]
    for row in (listed, stacked):
        for place, wanted in enumerate(total):
            found = sum(task[place] for task in row if task[place] is not None)  # type: ignore[attr-defined]
            torch.testing.assert_close(found, wanted)
    for step, run in steps.items():
        if step in ("forward", "plain", "list", "stacked"):
            continue
        case.model.zero_grad()
        run()
        for group, wanted_group in zip(roles.own, own, strict=True):
            for parameter, wanted in zip(group, wanted_group, strict=True):
                torch.testing.assert_close(parameter.grad, wanted)
        assert all(parameter.grad is not None for parameter in roles.shared), step
        if step == "torchjd":
            for parameter, wanted in zip(roles.shared, total, strict=True):
                torch.testing.assert_close(parameter.grad * case.num_tasks, wanted)


def test_the_peak_is_what_was_held_at_once() -> None:
    def step() -> None:
        first = torch.zeros(1000, 1000)  # 4 MB
        second = first + 1
        del first
        third = second + 1
        del second, third
        torch.zeros(500, 1000)

    assert peak_bytes(step, "cpu") == pytest.approx(8e6, rel=0.01)


def test_turns() -> None:
    called: list[str] = []
    steps = {name: (lambda name=name: called.append(name)) for name in "ab"}
    laps = take_turns(steps, 2, 1, "cpu", before=lambda: called.append("-"))
    assert "".join(called) == "-a-b" * 3
    assert [len(lap) for lap in laps.values()] == [2, 2]
    assert [len(lap) for lap in take_turns(steps, 5, 0, "cpu", seconds=0).values()] == [LEAST_ROUNDS] * 2


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "make_case", lambda name, *_: small(name))
    file = tmp_path / "bench.json"
    words = ["case=celeba", "steps=[list,cagrad]", "rounds=1", f"json={file}"]
    assert main(words) == 0
    table = capsys.readouterr().out
    steps = json.loads(file.read_text())["results"]["celeba"]["steps"]
    assert set(steps) == {"forward", "plain", "list", "cagrad"}
    assert steps["plain"]["of_plain"] == 1 and steps["list"]["of_list"] == 1
    assert steps["cagrad"]["of_list"] == pytest.approx(steps["cagrad"]["seconds"] / steps["list"]["seconds"])
    seconds = {step: row["seconds"] for step, row in steps.items()}
    gradients = (seconds["cagrad"] - seconds["forward"]) / (seconds["list"] - seconds["forward"])
    assert steps["cagrad"]["gradients_of_list"] == pytest.approx(gradients)
    assert steps["plain"]["gradients_of_plain"] == 1 and steps["forward"]["gradients_of_list"] == 0
    assert steps["list"]["above_plain_in_P"] > 30  # 40 tasks' gradients are held
    assert all(step in table for step in steps)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["case=imagenet"], "imagenet"),
        (["case=celeba", "steps=[lists]", "batch=2", "size=[16,16]"], "lists"),
        (["case=celeba", "methods=[ls]", "batch=2", "size=[16,16]"], "a loss weighting"),
        (["rounds=0"], "rounds=0"),
        (["batch=0"], "batch=0"),
        (["size=[3]"], r"size=\[3\]"),
        (["case=mtan", "size=[33,32]"], "multiples of 32"),
    ],
)
def test_errors(words: list[str], message: str) -> None:
    with pytest.raises((VisionError, SettingsError), match=message):
        main(words)


def test_every_case_has_its_published_size() -> None:
    assert {name: entry.size for name, entry in CASES.items()} == {
        "mtan": (288, 384),
        "segnet": (288, 384),
        "celeba": (64, 64),
    }
