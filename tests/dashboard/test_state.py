"""A view as an address."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtrl_surgery.dashboard.state import State
from mtrl_surgery.dashboard.views import VIEWS

texts = st.text(min_size=1, max_size=12)
states = st.builds(
    State,
    view=st.sampled_from(list(VIEWS)),
    benchmark=st.text(max_size=8),
    where=st.dictionaries(texts, st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple), max_size=3),
    group=st.lists(texts, max_size=3, unique=True).map(tuple),
    success=st.sampled_from(["any", "last"]),
    aggregate=st.sampled_from(["iqm", "mean", "median"]),
    sort=st.sampled_from(["", "-score", "run"]),
    show=st.dictionaries(texts, texts, max_size=2),
    theme=st.sampled_from(["", "dark"]),
)


@given(states)
def test_every_state_comes_back_from_its_address(state: State) -> None:
    assert State.parse(state.search(), VIEWS) == (state, [])


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("?view=nowhere", "the address says view=nowhere; choices: overview, curves"),
        ("?aggregate=best", "aggregate=best; choices: iqm, mean, median"),
        ("?wher.seed=1", "wher.seed=1, and there is no such key"),
    ],
)
def test_what_makes_no_sense_is_said_and_left_out(search: str, message: str) -> None:
    state, said = State.parse(f"{search}&group=seed", VIEWS)
    assert state == State(group=("seed",)) and len(said) == 1 and message in said[0]


def test_an_empty_address_is_the_first_page() -> None:
    for search in (None, "", "?"):
        assert State.parse(search, VIEWS) == (State(), [])


def test_a_filter_is_set_and_taken_back() -> None:
    state = State().filtered("seed", ["0", "1"])
    assert state.where == {"seed": ("0", "1")} and state.search() == "?where.seed=0&where.seed=1"
    assert state.filtered("seed", []) == State()
