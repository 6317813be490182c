"""From the words of `-m` to those of each run.

Hydra has no public function for it. Its parser of words is what its guide to sweepers has them use, and the one part
that says what a word means whatever the words are, so the choices are read by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mtrl_surgery.cli.composition import Program, composing
from mtrl_surgery.cli.schema import SettingsError


@dataclass(frozen=True)
class Combination:
    """The words of one run.

    Attributes:
        words: All of them, none with a choice.
        label: Those that tell it from the other runs.
    """

    words: tuple[str, ...]
    label: str


def expand(program: Program, words: Sequence[str]) -> list[Combination]:
    """Every combination of the words' choices: `a,b`, `range(n)`, `choice(...)`, `glob(...)`.

    A path is one value, whatever it is made of. The last key varies fastest. A key that is given twice counts as it is
    given last, as hydra has it.

    Raises:
        SettingsError: a word that hydra cannot read, an interval, which has no list of values, or a pattern that
            nothing matches.
    """
    choices: dict[str, list[str]] = {}
    swept: set[str] = set()
    with composing(program):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for word in program.without_nulls(words):
            override = None if program.is_path(word) else parser.parse_overrides([word])[0]
            key = word.partition("=")[0] if override is None else override.get_key_element()
            choices.pop(key, None)
            swept.discard(key)
            choices[key] = [word] if override is None else _choices(override, word)
            if override is not None and override.is_sweep_override():
                swept.add(key)
    found = []
    for values in itertools.product(*choices.values()):
        named = [value for key, value in zip(choices, values, strict=True) if key in swept]
        found.append(Combination(values, " ".join(named) or "the only run"))
    return found


def _choices(override: Override, word: str) -> list[str]:
    if not override.is_sweep_override():
        return [word]
    if not override.is_discrete_sweep():
        raise SettingsError(f"{word}: a sweep needs values to try; choices: a,b  range(a,b)  choice(a,b)  glob(a*)")
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise SettingsError(f"{word}: nothing matches, so there is no run")
    return values
