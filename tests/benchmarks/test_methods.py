"""`methods`: every method of the registry is timed, the targets are ours, and a method that can't run is said."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.methods import Cost, target
from benchmarks.timing import LEAST_ROUNDS, beside, take_turns
from benchmarks.variants import all_labels, find_entry
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.registry import METHODS, MethodEntry, find_method
from tests.commands.conftest import Run

TINY = ("batch=4", "width=8", "rounds=3", "device=cpu", "threads=1")


def test_every_method_is_timed(run: Run):
    said = run("methods", "tasks=[2,3]", *TINY, "seconds=0", "json=times/methods.json")
    assert said.code == 0 and "2 tasks: timed 3 rounds" in said.err
    results = json.loads(Path("times/methods.json").read_text())["results"]
    assert results["methods"].keys() == set(all_labels())
    assert set(results["plain_milliseconds"]) == {"2", "3"}
    timed = {name: cost for name, cost in results["methods"].items() if not cost["failed"]}
    for name in ("ls", "famo", "pcgrad", "cagrad", "samgs"):
        assert name in timed
    for name, cost in timed.items():
        entry = find_entry(name)
        assert cost["needs"] == entry.needs and cost["origin"] == entry.origin
        for tasks in ("2", "3"):
            assert cost["ratio"][tasks] > 0 and cost["milliseconds"][tasks] > 0
        assert any(line.startswith(name) and f"{cost['ratio']['2']:.2f}" in line for line in said.out.splitlines())


def test_chosen_methods_in_the_order_asked_for(run: Run):
    said = run("methods", "tasks=[2]", *TINY, "methods=[samgs,ls,samgs]")
    header, _, *rows = said.out.splitlines()[1:]
    assert header.split() == ["method", "needs", "origin", "K=2", "target", "met"]
    assert [row.split()[0] for row in rows] == ["samgs", "ls"]
    assert rows[0].split()[-2:] == ["-", "-"], "no target at K=2 for a Jacobian method"
    assert rows[1].split()[-2] == "1.05" and rows[1].split()[-1] in ("yes", "no")
    assert not Path("runs").exists()


def test_a_method_that_cannot_run_has_no_ratio(run: Run, monkeypatch: pytest.MonkeyPatch):
    @dataclass
    class PickyConfig(MethodConfig):
        name: str = "picky"

        def __post_init__(self) -> None:
            raise MethodError("picky has no default")

    monkeypatch.setitem(METHODS, "picky", replace(METHODS["ls"], name="picky", config=PickyConfig))
    said = run("methods", "tasks=[2]", *TINY, "methods=[picky,ls]", "json=out.json")
    assert said.code == 0 and "picky can't run with 2 tasks: picky has no default" in said.err
    cost = json.loads(Path("out.json").read_text())["results"]["methods"]["picky"]
    assert cost["ratio"] == {} and cost["failed"] == {"2": "picky has no default"} and cost["met"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks=[]"], "tasks=[] names no number of tasks"),
        (["tasks=[2,0]"], "tasks=0 must be at least 1"),
        (["rounds=0"], "rounds=0 must be at least 1"),
        (["methods=[samsg]"], "unknown method 'samsg'; did you mean 'samgs'?"),
        (["task=2"], "unknown key 'task'; did you mean 'tasks'?"),
    ],
)
def test_bad_words_are_named(run: Run, words: list[str], message: str):
    said = run("methods", *words)
    assert said.code == 2 and message in said.err


@pytest.mark.parametrize(
    ("needs", "targets"),
    [("losses", [1.05, 1.05, 1.05]), ("gramian", [None, 1.25, 1.4]), ("jacobian", [None, 1.4, 1.7])],
)
def test_targets_are_for_ours(needs: str, targets: list[float | None]):
    entry: MethodEntry = replace(find_method("ls"), needs=needs)  # type: ignore[arg-type]
    assert [target(entry, tasks) for tasks in (2, 10, 50)] == targets
    assert [target(replace(entry, origin="torchjd"), tasks) for tasks in (2, 10, 50)] == [None] * 3


def test_a_target_is_met_at_every_number_of_tasks():
    cost = Cost("gramian", "ours", ratio={2: 9.0, 10: 1.25, 50: 1.39}, target={10: 1.25, 50: 1.4})
    assert cost.met is True
    cost.ratio[50] = 1.41
    assert cost.met is False
    assert Cost("gramian", "torchjd", ratio={10: 9.0}).met is None


def test_turns_go_round_until_the_time_is_up():
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    laps = take_turns(steps, rounds=5, warmup=1, device="cpu")
    assert calls == ["a", "b"] * 6 and {name: len(lap) for name, lap in laps.items()} == {"a": 5, "b": 5}
    assert len(take_turns(steps, rounds=50, warmup=0, device="cpu", seconds=0)["a"]) == LEAST_ROUNDS


def test_a_ratio_is_to_the_references_before_and_after():
    """On a machine that halves its speed in the course of a round, the ratios are as on a steady one."""
    calls: list[str] = []
    now = 0.0

    def turn(name: str, milliseconds: float) -> None:
        nonlocal now
        now += 1e-3 * milliseconds * (1 + (len(calls) % 5) / 4)  # a round is r a r b r
        calls.append(name)

    steps = {"a": lambda: turn("a", 12), "b": lambda: turn("b", 8)}
    timed = beside(lambda: turn("r", 4), steps, rounds=5, warmup=1, device="cpu", clock=lambda: now)
    assert calls == ["r", "a", "r", "b", "r"] * 6 and timed.rounds == 5
    assert timed.ratio == {"a": pytest.approx(3), "b": pytest.approx(2)}
    assert timed.milliseconds == {"a": pytest.approx(15), "b": pytest.approx(14)}
    assert timed.reference == pytest.approx(6)
