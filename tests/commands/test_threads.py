"""How many cores the learner takes by itself."""

from __future__ import annotations

from envs.build import build_suite
from mtrl_surgery.assembly import agent_config, build_problem, resolve, update_flops
from mtrl_surgery.commands.program import compose
from mtrl_surgery.devices import LARGE_UPDATE, count_cores, resolve_threads
from mtrl_surgery.settings import TrainSettings, to_settings


def settings_of(*words: str) -> TrainSettings:
    return to_settings(compose(list(words)))


def flops(settings: TrainSettings) -> float:
    return update_flops(build_problem(build_suite(settings.env)), agent_config(settings))


def test_the_estimate_is_that_of_the_published_recipe() -> None:
    """14 GFLOP for MT10 with 3x400 networks and 128 transitions a task (counted by hand, layer by layer)."""
    assert abs(flops(settings_of("env=mt10")) - 14.0e9) < 0.1e9


def test_a_large_update_takes_every_core_and_a_small_one_half() -> None:
    large, small = settings_of("env=mt10"), settings_of("experiment=easy3")
    assert flops(small) < LARGE_UPDATE < flops(large)
    assert resolve(large).threads == count_cores()
    assert resolve(small).threads == max(1, count_cores() // 2)
    assert resolve_threads(3, update_flops=1e12) == 3, "what is asked for counts"
