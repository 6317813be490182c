"""From a composed or a stored configuration to plain typed objects, and errors that name the key and the choices."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    ConfigTypeError,
    InterpolationKeyError,
    OmegaConfBaseException,
    ValidationError,
)

from mtrl_surgery.choices import unknown
from mtrl_surgery.cli.words import literal
from mtrl_surgery.methods.config import MethodConfig

S = TypeVar("S")


class SettingsError(ValueError):
    """A key or a value of the configuration that makes no sense; the message names it and the choices."""


def typed(config: Any, schema: type[S], methods: Collection[str], optional: Collection[str] = ()) -> S:
    """Turn a composed configuration into plain typed objects, interpolations resolved.

    Args:
        config: what hydra composed.
        schema: the dataclass that it follows.
        methods: keys that hold a method's options.
        optional: those of them that may be null.

    Raises:
        SettingsError: a value is missing, unknown, or has the wrong type.
    """
    from mtrl_surgery.methods.registry import METHODS  # and torch

    try:
        _check_keys(config, "")
        settings = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise SettingsError(str(error).splitlines()[0]) from error
    if not isinstance(settings, schema):
        raise SettingsError(f"the configuration does not follow the schema of {schema.__name__}")
    check_values(settings)
    for key in methods:
        options: Any = getattr(settings, key)
        if options is None and key in optional:
            continue
        if not isinstance(options, MethodConfig):
            raise SettingsError(f"{key}={options!r} is no method; choices: {', '.join(METHODS)}")
        entry = METHODS.get(options.name)
        if entry is None or not isinstance(options, entry.config):
            raise SettingsError(f"{key}.name={options.name!r} is not to be set by itself: choose with {key}=<method>")
    return settings


def from_mapping(mapping: Mapping[str, Any], where: str | Path, schema: type[Any], methods: Collection[str]) -> Any:
    """A configuration that follows the schema, from the nested dictionaries of the config.yaml `where`; see `typed`.

    Raises:
        SettingsError: a key or a method is unknown here, or a value has the wrong type.
    """
    from mtrl_surgery.methods.registry import METHODS  # and torch

    config = OmegaConf.structured(schema)
    plain = literal(dict(mapping))  # a stored value refers to nothing: neither to another nor to the environment
    try:
        for key in methods:
            options = plain.pop(key, None)
            if options is not None:
                name = options["name"]
                check_choice(key, name, METHODS)
                config[key] = OmegaConf.merge(OmegaConf.structured(METHODS[name].config), options)
        return OmegaConf.merge(config, plain)
    except ConfigKeyError as error:
        raise SettingsError(f"{where}: unknown key '{error.full_key}'; was it written by another version?") from error
    except (OmegaConfBaseException, KeyError, TypeError) as error:
        raise SettingsError(f"{where} is not a run's configuration: {str(error).splitlines()[0]}") from error


def _check_keys(config: Any, parent: str) -> None:
    """Refuse keys that `+key=value` slipped past the schema, where nothing would ever read them."""
    schema = OmegaConf.get_type(config)
    names = [f.name for f in fields(schema)] if is_dataclass(schema) else list(config)
    for key, value in config.items_ex(resolve=False):
        if str(key) not in names:
            raise SettingsError(unknown("key", f"{parent}{key!s}", [f"{parent}{name}" for name in names]))
        if isinstance(value, DictConfig) and not value._is_none():
            _check_keys(value, f"{parent}{key!s}.")


def mapping_hash(mapping: Mapping[str, Any], nameless: Collection[str]) -> str:
    """Eight hexadecimal digits of everything but the nameless keys."""
    named = {key: value for key, value in mapping.items() if key not in nameless}
    text = json.dumps(named, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def check_values(value: Any, key: str = "") -> None:
    """Check what omegaconf lets pass in a dataclass, those in it, and their lists.

    Raises:
        SettingsError: A number is infinite or no number, or a list's item has another type than the key says.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{key}={value}: must be a finite number")
    if isinstance(value, list | tuple):
        for item in value:
            check_values(item, key)
    if not is_dataclass(value):
        return
    for name in (field.name for field in fields(value)):
        own, inner = f"{key}.{name}" if key else name, getattr(value, name)
        check_values(inner, own)
        if isinstance(inner, list):
            _check_items(own, inner, get_type_hints(type(value))[name])


def _check_items(key: str, items: list[Any], hint: Any) -> None:
    kinds = next((get_args(one) for one in (hint, *get_args(hint)) if get_origin(one) is list), (Any,))
    wanted = {str: "texts", int: "whole numbers", float: "numbers", bool: "true or false"}.get(kinds[0])
    allowed = (int, float) if kinds[0] is float else (kinds[0],)
    if wanted is not None and any(type(item) not in allowed for item in items):
        raise SettingsError(f"{key}={items!r}: must be a list of {wanted}")


def check_choice(key: str, value: str, choices: Iterable[str]) -> None:
    """Raise SettingsError unless the value is among the choices."""
    names = list(choices)
    if value not in names:
        raise SettingsError(unknown(key, value, names))


def check_least(at_least: Mapping[str, tuple[float | None, float]]) -> None:
    """Raise SettingsError for the first key whose value (None is none) is below its least."""
    for key, (value, least) in at_least.items():
        if value is not None and value < least:
            raise SettingsError(f"{key}={value} must be at least {least}")


def leaves(config: Mapping[str, Any] | DictConfig, prefix: str = "") -> dict[str, Any]:
    """Every plain value by its dotted key, `{"agent.tau": 0.005, ...}`; lists are values."""
    items = config.items_ex(resolve=False) if isinstance(config, DictConfig) else config.items()
    found: dict[str, Any] = {}
    for key, value in items:
        if isinstance(value, Mapping | DictConfig) and len(value):
            found.update(leaves(value, f"{prefix}{key!s}."))
        else:
            found[f"{prefix}{key!s}"] = value
    return found


def explain(error: BaseException, schema: type[Any]) -> str | None:
    """The sentence for an error of hydra or omegaconf, with the schema's keys as choices; None if it is neither's."""
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
    if isinstance(cause, InterpolationKeyError | ValidationError):
        return (f"{cause.full_key}: " if cause.full_key else "") + str(cause).strip().splitlines()[0]
    shown = error if str(error) else cause or error
    return " ".join(str(shown).split()) or type(shown).__name__


def _unknown_key(error: OmegaConfBaseException, whole: type[Any]) -> str:
    """`unknown key 'agent.hiden_sizes'; did you mean 'agent.hidden_sizes'? choices: ...`."""
    full_key = str(error.full_key)
    parent, _, last = full_key.rpartition(".")
    schema = error.object_type if dataclasses.is_dataclass(error.object_type) else whole
    prefix = f"{parent}." if parent else ""
    choices = [f"{prefix}{field.name}" for field in dataclasses.fields(schema)]
    if not difflib.get_close_matches(full_key, choices, n=1):
        # The right name in the wrong place: `tau=0.01` is agent.tau.
        by_last = {key.rpartition(".")[2]: key for key in leaves(OmegaConf.structured(whole))}
        close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.8)
        if close:
            return f"unknown key '{full_key}'; did you mean '{by_last[close[0]]}'? choices: {', '.join(choices)}"
    return unknown("key", full_key, choices)
