"""Two different runs never share a folder; where a run is written does not rename it."""

from __future__ import annotations

import dataclasses
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtrl_surgery.cli.schema import leaves
from mtrl_surgery.commands.program import compose
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.settings import (
    NAMELESS,
    TrainSettings,
    method_label,
    run_name,
    settings_from_mapping,
    to_settings,
)

BASE = TrainSettings(method=METHODS["cagrad"].config(), critic_method=METHODS["famo"].config())
KEYS = sorted(leaves(BASE.to_mapping()))
NUMBERS = [key for key, value in leaves(BASE.to_mapping()).items() if type(value) in (int, float, bool, str)]


def changed(key: str) -> TrainSettings:
    """BASE with one value made another of its type."""
    mapping = BASE.to_mapping()
    group, _, name = key.rpartition(".")
    branch = mapping[group] if group else mapping
    old = branch[name]
    branch[name] = not old if isinstance(old, bool) else (old + "x" if isinstance(old, str) else old + 1)
    return typed(mapping)


def typed(mapping: dict[str, Any]) -> TrainSettings:
    groups = {field.name: mapping[field.name] for field in dataclasses.fields(TrainSettings)}
    for name, value in groups.items():
        was = getattr(BASE, name)
        if dataclasses.is_dataclass(was) and isinstance(value, dict):
            copy = dataclasses.replace(was)  # type: ignore[type-var]
            vars(copy).update(value)  # past the methods' own checks: a name must tell values apart, sound or not
            groups[name] = copy
    return TrainSettings(**groups)


@given(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_runs_that_differ_in_a_key_have_different_names(one: str, other: str):
    same = one == other or all(key.partition(".")[0] in NAMELESS for key in (one, other))
    assert (run_name(changed(one)) == run_name(changed(other))) == same


@given(st.sampled_from(NUMBERS))
def test_only_where_a_run_is_written_leaves_its_name(key: str):
    assert (run_name(changed(key)) == run_name(BASE)) == (key.partition(".")[0] in NAMELESS)


def test_the_name_is_the_same_after_a_trip_through_config_yaml():
    settings = to_settings(compose(["env=mt1", "method=samgs", "agent.tau=0.01"]))
    again = settings_from_mapping(yaml.safe_load(yaml.safe_dump(settings.to_mapping())), "config.yaml")
    assert run_name(again) == run_name(settings)


def test_a_name_reads_well():
    settings = to_settings(compose(["env=mt1", "env.tasks=[push-v3]", "method=samgs", "seed=4"]))
    assert run_name(settings).rpartition("_")[0] == "mt1-push-v3_samgs_s4"
    assert method_label(BASE) == "critic-famo_actor-cagrad"
    twice = dataclasses.replace(BASE, critic_method=METHODS["cagrad"].config())
    assert method_label(twice) == "cagrad", "the same method written twice is one method"
