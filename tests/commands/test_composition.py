"""From words to a configuration: screens, groups, presets."""

from __future__ import annotations

import os

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from agents.config import AgentConfig
from mtrl_surgery.cli.composition import composing
from mtrl_surgery.cli.words import keys_of
from mtrl_surgery.commands.program import TRAIN, compose
from mtrl_surgery.methods.registry import ALIASES, METHODS
from mtrl_surgery.settings import METHOD_KEYS, TrainSettings, settings_from_mapping, to_settings, validate
from tests.commands.conftest import Run


def settings_of(*words: str) -> TrainSettings:
    settings = to_settings(compose(words))
    validate(settings)
    return settings


def test_cfg_job_prints_the_configuration_and_runs_nothing(run: Run):
    said = run("train", "--cfg", "job", "method=cagrad", "method.c=0.2", "critic_method=famo", "seed=7")
    printed = yaml.safe_load(said.out)
    assert said.code == 0 and said.err == "" and os.listdir() == []
    assert printed["method"]["name"] == "cagrad" and printed["method"]["c"] == 0.2
    assert printed["critic_method"]["name"] == "famo" and printed["actor_method"] is None
    assert printed["seed"] == 7 and "hydra" not in printed


def test_help_shows_groups_keys_and_examples(run: Run):
    said = run("train", "--help")
    assert said.code == 0 and os.listdir() == []
    assert set(METHODS) | set(ALIASES) <= set(said.out.replace(",", " ").split())
    assert "env: classic, custom, easy3, factory, gymnasium, mt1, mt10, mt25, mt50" in said.out
    assert "mtrl-surgery train experiment=easy3" in said.out
    for key in (*keys_of(TrainSettings), *(f"method.{option.name}" for option in METHODS["samgs"].options)):
        assert f"\n  {key}=" in said.out
    assert "\n  sweep.retries=3 " in said.out and max(map(len, said.out.splitlines())) <= 120


def test_info_says_where_values_come_from(run: Run):
    said = run("train", "--info", "defaults", "method=ls")
    assert said.code == 0 and "env/mt10" in said.out and "method/ls" in said.out and os.listdir() == []


def test_every_method_is_an_option_of_the_three_groups():
    """All are offered; each is composed in one group, whose turn it is."""
    with composing(TRAIN):
        loader = GlobalHydra.instance().config_loader()
        for group in METHOD_KEYS:
            assert set(METHODS) <= set(loader.get_group_options(group))
    names = list(METHODS)
    for start in range(0, len(names), len(METHOD_KEYS)):
        chosen = dict(zip(METHOD_KEYS, names[start:], strict=False))
        settings = settings_of("method=ls", *(f"{key}={name}" for key, name in chosen.items()))
        assert {key: getattr(settings, key) for key in chosen} == {k: METHODS[n].config() for k, n in chosen.items()}


def test_networks_have_the_common_method_unless_they_have_their_own():
    settings = settings_of("method=ls", "critic_method=famo", "critic_method.w_lr=0.1")
    assert settings.method_of["actor"].name == "ls"
    assert settings.method_of["critic"].name == "famo" and settings.method_of["critic"].w_lr == 0.1
    assert settings_of("critic_method=null").critic_method is None


@pytest.mark.parametrize("word", [f"experiment={name}" for name in ("easy3", "smoke", "mtrl_mt10")])
def test_experiments_are_sound(word: str):
    assert settings_of(word).total_steps > 0


def test_the_command_line_overrules_an_experiment():
    settings = settings_of("experiment=easy3", "env=mt10", "agent.batch_size=32", "total_steps=5")
    assert settings.env.name == "mt10" and settings.env.tasks == []
    assert settings.agent.batch_size == 32 and settings.total_steps == 5
    assert settings.agent.hidden_sizes == settings_of("experiment=easy3").agent.hidden_sizes


def test_one_hot_is_the_presets_unless_the_environment_says():
    from mtrl_surgery.assembly import agent_config

    for words, wanted in {
        ("agent=mtsac",): True,
        ("agent=mtrl",): False,
        ("agent=mtrl", "env.one_hot=true"): True,
        ("agent=mtsac", "env.one_hot=false"): False,
    }.items():
        assert agent_config(settings_of(*words)).one_hot is wanted


def test_the_default_is_meta_world_plus():
    """Meta-World+ (arXiv 2505.11289) as metaworld-algorithms runs it: MTSACConfig and its MT10 example."""
    settings = settings_of()
    agent, env = settings.agent, settings.env
    assert settings.agent == AgentConfig()
    assert (env.name, env.horizon, env.reward_version, env.num_goals, env.copies) == ("mt10", 500, "v2", 50, 1)
    assert agent.hidden_sizes == [400, 400, 400] and agent.critics == 2 and agent.one_hot
    assert (agent.discount, agent.tau, agent.batch_size, agent.replay_capacity) == (0.99, 0.005, 128, 100_000)
    assert {agent.actor_learning_rate, agent.critic_learning_rate, agent.temperature_learning_rate} == {3e-4}
    assert (agent.adam_eps, agent.max_grad_norm) == (1e-5, 1.0)
    assert (agent.temperature, agent.initial_temperature, agent.target_entropy) == ("per_task", 1.0, None)
    assert (agent.log_std_min, agent.log_std_max, agent.log_std_bound) == (-20.0, 2.0, "clamp")
    assert (agent.warmup_steps, agent.warmup_burst, agent.updates_per_step) == (4000, False, 1.0)
    assert agent.reward_normalization == agent.observation_normalization == "none" and agent.reward_scale == 1.0
    assert agent.initializer == "he_uniform" and not agent.critic_layer_norm
    assert (agent.temperature_loss, agent.critic_reduction) == ("log_temperature", "mean")
    assert (settings.evaluation.final_episodes, settings.evaluation.protocol) == (50, None)


def test_mtrl_is_mtrl():
    """facebookresearch/mtrl: config/agent/state_sac.yaml, components/metaworld_*, experiment/metaworld.yaml."""
    settings = settings_of("experiment=mtrl_mt10")
    agent, env, evaluation = settings.agent, settings.env, settings.evaluation
    assert agent.hidden_sizes == [400, 400, 400] and agent.critics == 2
    assert not agent.one_hot and agent.temperature == "shared" and agent.initial_temperature == 1.0
    assert (agent.log_std_min, agent.log_std_max, agent.log_std_bound) == (-20.0, 2.0, "tanh")
    assert {agent.actor_learning_rate, agent.critic_learning_rate, agent.temperature_learning_rate} == {3e-4}
    assert agent.adam_eps == 1e-8 and agent.max_grad_norm is None
    assert (agent.discount, agent.tau) == (0.99, 0.005)
    assert (agent.warmup_steps, agent.warmup_burst, agent.updates_per_step) == (1500, True, 1.0)
    assert (agent.reward_normalization, agent.reward_alpha) == ("exponential", 0.001)
    assert agent.observation_normalization == "none" and agent.initializer == "xavier_uniform"
    assert (agent.temperature_loss, agent.critic_reduction) == ("temperature", "sum")
    assert agent.batch_size * 10 == 1280 and agent.replay_capacity * 10 == 1_000_000
    assert (env.horizon, env.reward_version, env.num_goals) == (150, "v1", 1)
    assert (evaluation.protocol, evaluation.episodes, evaluation.every) == ("mtrl", 1, 30_000)
    assert settings.total_steps == 2_000_000


def test_config_yaml_brings_the_same_settings_back():
    settings = settings_of("method=samgs", "method.gamma=0.5", "critic_method=famo", "env=mt1", "cluster.workers=3")
    text = yaml.safe_dump(settings.to_mapping())
    assert settings_from_mapping(yaml.safe_load(text), "config.yaml") == settings
