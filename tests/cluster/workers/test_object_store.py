"""The bound of the object store covers what is really sent, and a store that is too small is refused by name."""

from __future__ import annotations

import pickle

import pytest

from cluster.config import ClusterConfig, ClusterError
from cluster.training.inline import InlineCollector
from cluster.training.ledger import DIED, Ledger
from cluster.workers.object_store import check_store, most_bytes
from tests.cluster.parts import classic_suite, make_spec, order_of


def test_a_chunk_and_its_positions_are_within_the_bound() -> None:
    suite = classic_suite(horizon=500)
    collector = InlineCollector(make_spec(suite, copies=3))
    collector.start(None)
    largest = 0
    for index in range(2):  # the second one ends just before the horizon, where positions are longest
        collector.submit(order_of(suite, index, steps=249), [0, 1])
        largest = max(largest, len(pickle.dumps(collector.receive(), protocol=5)))
    bound = most_bytes(suite, copies=3, chunk_steps=249, workers=0, weights_bytes=0)
    assert largest <= bound / 2 <= 1.3 * largest


def test_a_store_that_is_too_small_is_refused_with_the_key_to_change() -> None:
    stores = {"10.0.0.1 (head)": 100 * 2**20, "10.0.0.2 (ab12)": 40 * 2**20}
    config = ClusterConfig(chunk_steps=700)
    check_store(32 * 2**20, stores, config)
    with pytest.raises(ClusterError, match=r"33 MB, more than 80 % of the 40 MB object store of node 10.0.0.2") as said:
        check_store(33 * 2**20, stores, config)
    assert "raise cluster.object_store_mb=512 to 42" in str(said.value)
    assert "lower cluster.chunk_steps=700 or env.copies" in str(said.value)
    with pytest.raises(ClusterError, match=r"ray start --object-store-memory=44040192"):
        check_store(33 * 2**20, stores, ClusterConfig(kind="ray", address="auto"))


def test_every_chunk_has_a_fate() -> None:
    ledger = Ledger()
    ledger.ordered, ledger.collected, ledger.used = 5, 3, 2
    ledger.dropped[DIED] += 1
    assert ledger.in_flight == 2
    ledger.close()
    assert ledger.row() == {
        "chunks_ordered": 5,
        "chunks_collected": 3,
        "chunks_used": 2,
        "chunks_dropped": {"worker died": 1, "run ended": 2},
        "chunks_in_flight": 0,
    }
