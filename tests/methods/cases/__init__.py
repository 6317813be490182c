"""What is expected of each method, by kind: `test_contract.py` and `test_traits.py` run over it."""

from __future__ import annotations

from tests.methods.cases import gramian, jacobian, losses, torchjd
from tests.methods.cases.case import Case

CASES: dict[str, Case] = {**losses.CASES, **gramian.CASES, **jacobian.CASES, **torchjd.CASES}
