"""From a command line to flags and words, and from the words of many runs to those of each."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtrl_surgery.cli.command_line import CommandLine, read_flags
from mtrl_surgery.cli.composition import composing, expand
from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.commands.program import TRAIN
from mtrl_surgery.methods.registry import ALIASES, METHODS
from mtrl_surgery.sweeps.plan import SweepOptions, split
from tests.commands.conftest import Run

KEYS = ("seed", "agent.tau", "env.horizon", "total_steps", "method")
VALUES = {
    "method": st.lists(st.sampled_from(sorted(METHODS)), min_size=1, max_size=3, unique=True),
    "agent.tau": st.lists(st.floats(0.001, 1.0).map(lambda x: repr(round(x, 4))), min_size=1, max_size=3, unique=True),
}
NUMBERS = st.lists(st.integers(0, 10**6).map(str), min_size=1, max_size=4, unique=True)


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with composing(TRAIN):
        yield


def words_of(*words: str) -> list[tuple[str, ...]]:
    return [combination.words for combination in expand(TRAIN, words)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.permutations(KEYS), st.integers(1, 4))
def test_the_runs_are_the_product_of_the_choices(data: st.DataObject, keys: list[str], number: int):
    choices = {key: data.draw(VALUES.get(key, NUMBERS)) for key in keys[:number]}
    forms = st.sampled_from(["{}", "choice({})"])
    words = [f"{key}={data.draw(forms).format(','.join(values))}" for key, values in choices.items()]
    found = expand(TRAIN, words)
    wanted = [tuple(f"{key}={value}" for key, value in zip(choices, values, strict=True))
              for values in itertools.product(*choices.values())]  # fmt: skip
    assert len(found) == math.prod(map(len, choices.values()))
    plain = [tuple(word.replace("choice(", "").rstrip(")") for word in one.words) for one in found]
    assert plain == wanted, "each combination once, the last key fastest"
    assert len({one.label for one in found}) == len(found), "labels tell runs apart"


@pytest.mark.parametrize(
    ("word", "values"),
    {
        "seed=range(5)": ["0", "1", "2", "3", "4"],
        "seed=range(4,10,3)": ["4", "7"],
        "seed=sort(3,1,2)": ["1", "2", "3"],
        "env.tasks=[a,b],[c]": ["[a,b]", "[c]"],
        "method=glob(pc*)": ["pcd", "pcgrad"],
        "method=glob(*)": sorted([*METHODS, *ALIASES]),
        "+note='a b',2": ["'a b'", "2"],
    }.items(),
)
def test_hydras_ways_to_write_choices(word: str, values: list[str]):
    key = word.partition("=")[0]
    assert words_of(word) == [(f"{key}={value}",) for value in values]


def test_words_without_choices_stay_as_they_are():
    words = ("env.tasks=[a,b]", "method=samgs", "~logger", "logger.project='x, y'", "agent.hidden_sizes=[8,8]")
    (only,) = expand(TRAIN, words)
    assert only.words == words and only.label == "the only run"


def test_a_label_has_what_is_swept_and_no_more():
    labels = [one.label for one in expand(TRAIN, ["total_steps=9", "method=ls,samgs", "seed=7,8"])]
    assert labels == ["method=ls seed=7", "method=ls seed=8", "method=samgs seed=7", "method=samgs seed=8"]


def test_the_last_word_of_a_key_counts():
    assert words_of("seed=1,2", "method=ls", "seed=3") == [("method=ls", "seed=3")]


def test_groups_that_are_left_out_are():
    assert words_of("experiment=null", "seed=1") == [("seed=1",)]


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("agent.tau=interval(0,1)", "a sweep needs values to try"),
        ("method=glob(nothing*)", "nothing matches, so there is no run"),
    ],
)
def test_what_is_no_list_of_values_is_refused(word: str, part: str):
    with pytest.raises(SettingsError, match=part):
        expand(TRAIN, [word])


def test_words_that_hydra_cannot_read_are_named():
    with pytest.raises(SettingsError, match=r"cannot read 'seed=range\(1'"):
        expand(TRAIN, ["seed=range(1"])


def test_the_sweeps_own_keys_are_split_off():
    options, words = split(["seed=1,2", "sweep.cpus=0.5", "sweep.address=127.0.0.1:6379", "sweep.report=false"])
    assert words == ["seed=1,2"]
    assert options == SweepOptions(cpus=0.5, address="127.0.0.1:6379", report=False)


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("sweep.cpu=1", "did you mean 'sweep.cpus'"),
        ("sweep.cpus=many", "sweep.cpus"),
        ("sweep.cpus=1,2", "sweep.cpus"),
        ("sweep.cpus=-1", "sweep.cpus=-1.0 must be at least 0"),
        ("sweep.parallel=0", "sweep.parallel=0 must be at least 1"),
        ("sweep.retries=-1", "sweep.retries=-1 must be at least 0"),
        ("sweep.max_failures=0", "sweep.max_failures=0 must be at least 1"),
        ("sweep.cpus", "cannot read 'sweep.cpus'"),
    ],
)
def test_options_that_make_no_sense_are_refused(word: str, part: str):
    with pytest.raises(ValueError, match=part):
        split([word])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--confg", "job"], "unknown flag '--confg'; did you mean '--cfg job'"),
        (["--cfg", "hydra"], "unknown --cfg 'hydra'; choices: job"),
        (["--info"], "unknown --info ''; choices: defaults"),
        (["hydra.mode=MULTIRUN"], "-m does many"),
        (["-m", "hydra/launcher=joblib"], "hydra composes the configuration and does no runs"),
    ],
)
def test_flags_that_there_are_not_are_refused(words: list[str], part: str):
    with pytest.raises(SettingsError, match=part):
        read_flags(words)


def test_flags_stand_anywhere():
    assert read_flags(["seed=1,2", "--multirun"]) == read_flags(["-m", "seed=1,2"]) == CommandLine(("seed=1,2",), True)
    assert (
        read_flags(["--cfg", "job", "a=1"]) == read_flags(["a=1", "-c", "job"]) == CommandLine(("a=1",), False, "job")
    )
    assert read_flags(["-m", "--help"]).screen == "help"
    assert read_flags(["hydra.searchpath=[file://x]"]).words == ("hydra.searchpath=[file://x]",)


def test_the_keys_of_a_sweep_need_many_runs(run: Run):
    said = run("train", "sweep.cpus=1")
    assert said.code == 2 and "sweep.cpus=1: says how a sweep is done, which needs -m" in said.err
    assert run("train", "-m", "--cfg", "job", "sweep.cpus=1", "seed=1").code == 0


def test_groups_of_ones_own(run: Run, tmp_path: Path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "short.yaml").write_text("# @package _global_\ntotal_steps: 7\n")
    words = ("experiment=short", f"hydra.searchpath=[file://{tmp_path}/mine]", "cluster.workers=2")
    said = run("train", "--cfg", "job", *words)
    assert said.code == 0 and "total_steps: 7\n" in said.out, said.err
