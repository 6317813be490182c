"""What hydra and omegaconf complain about, said in one sentence that names the key, the value and the choices."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationKeyError,
    OmegaConfBaseException,
    ValidationError,
)

from mtrl_surgery.choices import unknown
from mtrl_surgery.cli.schema import leaves


def explain(error: BaseException, schema: type[Any]) -> str | None:
    """The sentence for an error of hydra or omegaconf; None if it is neither's.

    Args:
        error: What was raised.
        schema: The dataclass of the whole configuration, for the choices.
    """
    if isinstance(error, ValueError) and str(error).startswith("Config group override"):
        return "a group takes the name of one of its options, not null (`--help` lists them; ~GROUP leaves it out)"
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: write KEY=VALUE, and quote what has spaces or brackets"
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return unknown(group, name, sorted(error.options))
    cause = error.__cause__ if isinstance(error, HydraException) else error
    if isinstance(cause, ConfigKeyError | ConfigAttributeError | ConfigTypeError):
        return _unknown_key(cause, schema)
    if isinstance(cause, InterpolationKeyError):
        return f"{cause.full_key}: {_first_line(cause)}" if cause.full_key else _first_line(cause)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause)
    return _line(error) if str(error) else _line(cause or error)


def _unknown_key(error: OmegaConfBaseException, whole: type[Any]) -> str:
    """`unknown key 'agent.hiden_sizes'; did you mean 'agent.hidden_sizes'? choices: ...`."""
    full_key = str(error.full_key)
    parent, _, last = full_key.rpartition(".")
    schema = error.object_type if dataclasses.is_dataclass(error.object_type) else whole
    prefix = f"{parent}." if parent else ""
    choices = [f"{prefix}{field.name}" for field in dataclasses.fields(schema)]
    if not difflib.get_close_matches(full_key, choices, n=1):
        # The right name in the wrong place: `tau=0.01` is agent.tau.
        elsewhere = _closest_by_last_part(last, leaves(OmegaConf.structured(whole)))
        if elsewhere is not None:
            return f"unknown key '{full_key}'; did you mean '{elsewhere}'? choices: {', '.join(choices)}"
    return unknown("key", full_key, choices)


def _closest_by_last_part(name: str, keys: Iterable[str]) -> str | None:
    by_last = {key.rpartition(".")[2]: key for key in keys}
    close = difflib.get_close_matches(name, by_last, n=1, cutoff=0.8)
    return by_last[close[0]] if close else None


def _wrong_type(error: ValidationError) -> str:
    key = f"{error.full_key}: " if error.full_key else ""
    return f"{key}{_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _line(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error).strip()) or type(error).__name__
