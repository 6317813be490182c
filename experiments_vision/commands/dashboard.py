"""A live page over runs: as `python -m mtrl_surgery dashboard`, with the supervised runs' metrics.

usage: python -m experiments_vision dashboard RUNS [RUNS ...] [KEY=VALUE ...]

RUNS   folders, with run folders at any depth below them; more may come and go while the page is open

{keys}

The page has an address for each view, with its filters and groups. Runs are only read, and nothing outside of the
folders is: a link that leads out of them is not followed. Ctrl-C stops it; it starts and changes no run.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments_vision.commands.report import scoring_of
from mtrl_surgery.commands.dashboard import serve_page


def main(words: Sequence[str]) -> int:
    """Serve the page until Ctrl-C."""
    return serve_page(words, __doc__ or "", scoring_of)
