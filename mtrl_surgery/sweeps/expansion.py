"""From the words of a command line to those of its runs, by hydra's own parser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mtrl_surgery.cli.composition import Program, translated
from mtrl_surgery.sweeps.errors import SweepError


@dataclass(frozen=True)
class Combination:
    """The words of one run.

    Attributes:
        words: All of them, none with a choice.
        label: Those that tell it from the sweep's other runs.
    """

    words: tuple[str, ...]
    label: str


@contextmanager
def composing(program: Program) -> Iterator[None]:
    """Hydra set up once for every configuration that is composed in the block."""
    program.register()
    with translated(program), hydra.initialize_config_module(program.config_module, version_base="1.3"):
        yield


def expand(program: Program, words: Sequence[str]) -> list[Combination]:
    """Every combination of the words' choices: `a,b`, `range(n)`, `choice(...)`, `glob(...)`. Call it in `composing`.

    A path is one value, whatever it is made of.

    The last key varies fastest. A key that is given twice counts as it is given last, as hydra has it.

    Raises:
        SweepError: an interval, which has no list of values, or a pattern that nothing matches.
        SettingsError: a word that hydra cannot read.
    """
    with translated(program):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        choices: dict[str, list[str]] = {}
        swept: set[str] = set()
        for word in program.without_nulls(words):
            if program.is_path(word):
                choices.pop(key := word.partition("=")[0], None)
                choices[key] = [word]
                continue
            (override,) = parser.parse_overrides([word])
            key = override.get_key_element()
            choices.pop(key, None)
            swept.discard(key)
            choices[key] = _choices(override)
            if override.is_sweep_override():
                swept.add(key)
    found = []
    for values in itertools.product(*choices.values()):
        named = [value for key, value in zip(choices, values, strict=True) if key in swept]
        found.append(Combination(values, " ".join(named) or "the only run"))
    return found


def _choices(override: Override) -> list[str]:
    word = override.input_line or ""
    if not override.is_sweep_override():
        return [word]
    if not override.is_discrete_sweep():
        raise SweepError(f"{word}: a sweep needs values to try; choices: a,b  range(a,b)  choice(a,b)  glob(a*)")
    key = override.get_key_element()
    values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise SweepError(f"{word}: nothing matches, so there is no run")
    return values
