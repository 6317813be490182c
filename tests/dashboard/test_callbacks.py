"""What an answer brings of a view's sections."""

from __future__ import annotations

from typing import Any

import pytest

from mtrl_surgery.dashboard import callbacks
from mtrl_surgery.dashboard.components import frame
from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import Section
from mtrl_surgery.reports.figures.base import Part


def figure(name: str, version: int) -> Section:
    part = Part(name, name, "", {"": {"data": [], "layout": {"height": 300}}})
    return Section(name, part, "", f"{name}{version}", False)


def test_an_answer_brings_one_figure_and_who_waited_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    late: list[str] = []

    def send(name: str, properties: dict[str, Any]) -> None:
        sent.append(name.removeprefix("figure-"))

    monkeypatch.setattr(callbacks, "set_props", send)
    names = ["above", "middle", "below"]
    before = [[name, f"{name}0", frame(figure(name, 0))] for name in names]
    for version in range(1, 7):  # all of them change all the time
        sections = [figure(name, version) for name in names]
        prints = [[own.name, own.print, frame(own)] for own in sections]
        _, late = callbacks._sections(sections, State("curves"), before, prints, late)
        assert len(late) == 2 and sent[-1] not in late
        assert {name for (name, new, _), (_, old, _) in zip(prints, before, strict=True) if new == old} == set(late)
        before = prints
    assert {name: sent.count(name) for name in names} == dict.fromkeys(names, 2), sent
