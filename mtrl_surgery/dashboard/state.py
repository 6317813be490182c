"""What a page shows, as the query of its address: a link opens the same view."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import parse_qsl, urlencode

from mtrl_surgery.reports.benchmarks import SUCCESSES
from mtrl_surgery.reports.bootstrap import AGGREGATES

_WHERE, _SHOW = "where.", "show."


@dataclass(frozen=True)
class State:
    """A view.

    Attributes:
        view: Which one.
        benchmark: Whose runs; empty: of the first, and all of them in the table of runs.
        where: By configuration key, the values that a run may have; other runs are left out.
        group: The keys by whose values runs are grouped; none: by method and options.
        success: `any` or `last`, of reinforcement learning.
        aggregate: Over seeds and tasks.
        sort: The column of the table of runs, with `-` before it from the greatest down.
        show: By part, which of its figures.
        theme: `light` or `dark`; empty: as the system is, or as the button was set.
    """

    view: str = "overview"
    benchmark: str = ""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: tuple[str, ...] = ()
    success: str = "any"
    aggregate: str = "iqm"
    sort: str = ""
    show: Mapping[str, str] = field(default_factory=dict)
    theme: str = ""

    @classmethod
    def parse(cls, search: str | None, views: Collection[str]) -> tuple[Self, list[str]]:
        """The state that an address names, and a sentence for each part that makes no sense."""
        said: list[str] = []
        plain: dict[str, str] = {}
        where: dict[str, tuple[str, ...]] = {}
        group: list[str] = []
        show: dict[str, str] = {}
        choices = {"view": views, "success": SUCCESSES, "aggregate": AGGREGATES, "theme": ("light", "dark")}
        for key, value in parse_qsl((search or "").removeprefix("?"), keep_blank_values=True):
            if key.startswith(_WHERE):
                name = key.removeprefix(_WHERE)
                where[name] = (*where.get(name, ()), value)
            elif key.startswith(_SHOW):
                show[key.removeprefix(_SHOW)] = value
            elif key == "group":
                group.append(value)
            elif key in choices and value not in choices[key]:
                said.append(f"the address says {key}={value}; choices: {', '.join(choices[key])}")
            elif key in (*choices, "benchmark", "sort"):
                plain[key] = value
            else:
                said.append(f"the address says {key}={value}, and there is no such key")
        return cls(where=where, group=tuple(dict.fromkeys(group)), show=show, **plain), said

    def search(self) -> str:
        """The query, `?` and all; empty for a first page."""
        start = State()
        pairs = [
            (key, getattr(self, key))
            for key in ("view", "benchmark", "success", "aggregate", "sort", "theme")
            if getattr(self, key) != getattr(start, key)
        ]
        pairs += [("group", key) for key in self.group]
        pairs += [(_WHERE + key, value) for key, values in self.where.items() for value in values]
        pairs += [(_SHOW + part, figure) for part, figure in self.show.items()]
        return f"?{urlencode(pairs)}" if pairs else "?"

    def filtered(self, key: str, values: Sequence[str]) -> State:
        """With another choice of a key's values; none: any."""
        where = {**self.where, key: tuple(values)}
        return replace(self, where={key: values for key, values in where.items() if values})

    def showing(self, part: str, figure: str) -> State:
        """With another figure of a part."""
        return replace(self, show={**self.show, part: figure})
