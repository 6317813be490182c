"""`learners` and `scaling`, with real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.learners import (
    LIMIT,
    Arguments,
    Difference,
    build_agent,
    compare,
    random_batch,
    share,
)
from benchmarks.variants import all_labels
from mtrl_surgery.jacobian.sharding import Whole


@pytest.mark.cluster
def test_two_learners_are_one_with_every_method() -> None:
    found = compare(Arguments(updates=2), all_labels(), 2)
    assert found.keys() == set(all_labels())
    apart = {name: one for name, one in found.items() if not (isinstance(one, Difference) and one.met)}
    assert not apart


@pytest.mark.slow
def test_three_learners_are_one_with_every_method() -> None:
    found = compare(Arguments(updates=5, tasks=7, width=9), all_labels(), 3)
    assert all(isinstance(one, Difference) and one.met for one in found.values()), found


def test_directions_that_are_averaged_are_another_algorithm() -> None:
    """What the comparison is worth: the mean of two learners' own directions is far from the direction."""
    torch.set_default_dtype(torch.float64)
    try:
        arguments = Arguments()
        whole = build_agent(arguments, "samgs", None)
        batch, noise_2KBA = random_batch(arguments, torch.Generator().manual_seed(0))
        whole.step(batch, noise_2KBA)
        directions = []
        for rank in range(2):
            half = Whole()
            half.size, half.rank = 2, rank  # only to be given its share
            agent = build_agent(arguments, "samgs", None)
            agent._code_KBK = agent._code_KBK[:, : arguments.batch // 2]
            agent.step(*share(batch, noise_2KBA, half))
            directions.append(agent.critic.direction_C)
        assert whole.critic.direction_C is not None and None not in directions
        mean_P = (directions[0] + directions[1]) / 2  # type: ignore[operator]
        assert (mean_P - whole.critic.direction_C).norm() > 1e3 * LIMIT * whole.critic.direction_C.norm()
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_table_names_a_method_that_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"ls": Difference(1e-15, 2e-15, 0.0), "samgs": Difference(1e-15, 3e-3, 0.0)}
    monkeypatch.setattr("benchmarks.learners.compare", lambda *_: found)
    assert main(["learners", "learners=[2]", "methods=[ls,samgs]"]) == 1
    out = capsys.readouterr().out
    assert "3e-03" in out and "limit 1e-06: NOT met" in out
    assert not Difference(float("nan"), 0.0, 0.0).met and not Difference(0.0, float("nan"), 0.0).met


@pytest.mark.cluster
def test_scaling_counts_what_goes_over_the_loopback_interface(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scaling.json"
    words = ["tasks=4", "batch=8", "width=200", "layers=2", "updates=10", "methods=[samgs]", "learners=[1,2]"]
    assert main(["scaling", *words, f"json={file}"]) == 0
    found = json.loads(file.read_text())["results"]
    alone, two = found["1"]["samgs"], found["2"]["samgs"]
    assert two["numbers"] == 0.5 * 5 * two["parameters"] and two["all_reduced"] == 4 * two["parameters"]
    assert alone["numbers"] == 0 and two["milliseconds"] > 0
    if two["sent"] is not None:  # other processes may talk meanwhile
        assert two["sent"] > 0.99 * 4 * two["numbers"]
    assert "efficiency" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learners", "learners=[1]"], "learners=[1]"),
        (["learners", "learners=[5]"], "batch=12 can't be shared out to learners=5"),
        (["learners", "methods=[nope]"], "nope"),
        (["scaling", "learners=[3]"], "batch=128 can't be shared out to learners=3"),
        (["scaling", "methods=[]"], "nothing to time"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words]) == 2
    assert message in capsys.readouterr().err
