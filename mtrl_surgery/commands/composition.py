"""The bridge to hydra: our schema goes in, a composed configuration or one clear sentence comes out."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from mtrl_surgery.commands.complaints import explain
from mtrl_surgery.methods.registry import METHODS
from mtrl_surgery.settings import SettingsError, TrainSettings

CONFIG_PATH = "pkg://configs"
CONFIG_NAME = "train"
METHOD_GROUPS = ("method", "actor_method", "critic_method")
_SAME_AS_LEFT_OUT = (
    "actor_method=null",
    "critic_method=null",
    "experiment=null",
)  # hydra takes no null for a group


def register_schema() -> None:
    """Give hydra the types of the run's configuration, and an option of the method groups for every method."""
    store = ConfigStore.instance()
    store.store(name="schema", node=TrainSettings, provider="mtrl_surgery")
    for group in METHOD_GROUPS:
        for name, entry in METHODS.items():
            for known in (name, *entry.aliases):
                store.store(group=group, name=known, node=entry.config, provider="mtrl_surgery")


def hydra_main(task: Callable[[DictConfig], None], words: Sequence[str]) -> None:
    """Run hydra's own command line (--cfg, --help, -m, ...) on our words; it calls the task for every run.

    Raises:
        SettingsError: the words do not make a configuration; the message names the key, the value and the choices.
    """
    register_schema()
    app = hydra.main(config_path=CONFIG_PATH, config_name=CONFIG_NAME, version_base="1.3")(task)
    # hydra.main reads the process's arguments, and only raises what goes wrong where the variable is set.
    full_error = {"HYDRA_FULL_ERROR": "1", "HYDRA_MAIN_MODULE": "mtrl_surgery.commands.train"}
    with (
        mock.patch.object(sys, "argv", ["mtrl-surgery train", *_without_nulls(words)]),
        mock.patch.dict(os.environ, full_error),
        mock.patch.object(logging, "raiseExceptions", False),  # `--info | head` is no reason for tracebacks
        _translated(),
    ):
        app()


def compose(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `train` would have with these overrides, inside hydra's run or outside of it.

    Raises:
        SettingsError: the overrides do not make a configuration.
    """
    register_schema()
    with _translated():
        if GlobalHydra.instance().is_initialized():
            return hydra.compose(CONFIG_NAME, _without_nulls(overrides))
        with hydra.initialize_config_module("configs", version_base="1.3"):
            return hydra.compose(CONFIG_NAME, _without_nulls(overrides))


def _without_nulls(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in _SAME_AS_LEFT_OUT]


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        raise SettingsError(message) from error
