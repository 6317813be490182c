"""Options, task groups, the schedule's grid, and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.config import ClusterConfig, ClusterError, count_workers
from cluster.training.schedule import Schedule
from mtrl_surgery.runs.signals import StopSignals, exit_when_told


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "rey"}, r"cluster.kind='rey' is unknown; choices: inline, local, ray"),
        ({"mode": "fast"}, r"cluster.mode='fast' is unknown; choices: sync, async"),
        ({"chunk_steps": 0}, r"cluster.chunk_steps=0 must be at least 1"),
        ({"workers": 0}, r"cluster.workers=0 must be at least 1"),
        ({"max_lead": 0}, r"cluster.max_lead=0"),
        ({"max_restarts": -1}, r"cluster.max_restarts=-1"),
        ({"start_timeout": 0}, r"cluster.start_timeout=0"),
        ({"hang_timeout": -1.0}, r"cluster.hang_timeout=-1.0 must be positive"),
        ({"object_store_mb": 1}, r"cluster.object_store_mb=1"),
        ({"kind": "ray"}, r"needs cluster.address"),
        ({"address": "auto"}, r"cluster.address='auto' is only for cluster.kind=ray"),
    ],
)
def test_a_bad_option_is_named_with_its_choices(options: dict[str, object], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        ClusterConfig(**options).validate()  # type: ignore[arg-type]


def test_workers_leave_a_core_to_the_learner_and_have_a_task_each() -> None:
    assert count_workers(ClusterConfig(), tasks=50, cores=8) == 7
    assert count_workers(ClusterConfig(), tasks=3, cores=8) == 3
    assert count_workers(ClusterConfig(), tasks=3, cores=1) == 1
    assert count_workers(ClusterConfig(workers=5), tasks=50, cores=2) == 5
    assert count_workers(ClusterConfig(kind="inline", workers=5), tasks=50) == 1
    assert count_workers(ClusterConfig(kind="ray", address="auto"), tasks=50, cores=2) == 50
    assert count_workers(ClusterConfig(kind="ray", address="auto", workers=4), tasks=3, cores=2) == 3


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 2000))
def test_chunks_fill_the_run_exactly_and_a_longer_run_keeps_the_grid(total: int, chunk: int, more: int) -> None:
    schedule, step, ends = Schedule(total, chunk), 0, []
    while length := schedule.chunk_length(step):
        assert 1 <= length <= chunk
        step += length
        ends.append(step)
    assert step == total
    longer = Schedule(total + more, chunk)
    while length := longer.chunk_length(step):
        step += length
        assert step % chunk == 0 or step == total + more


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 200))
def test_every_interval_is_due_once(total: int, chunk: int, every: int) -> None:
    schedule = Schedule(total, chunk, log_every=every, checkpoint_every=every, evaluate_every=every)
    before, logged = 0, []
    while length := schedule.chunk_length(before):
        now = before + length
        assert schedule.logs(before, now) == schedule.checkpoints(before, now)
        assert bool(schedule.episodes(before, now)) == schedule.logs(before, now)
        logged += [now] if schedule.logs(before, now) else []
        before = now
    expected = {min(total, -(-multiple // chunk) * chunk) for multiple in range(every, total + 1, every)}
    assert logged == sorted(expected | {total})


def test_evaluation_every_0_is_only_at_the_end() -> None:
    schedule = Schedule(100, 10, evaluate_every=0, final_episodes=7)
    assert [schedule.episodes(step - 10, step) for step in (10, 50, 100)] == [0, 0, 7]


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background job"])
def test_the_first_signal_is_noted_and_the_second_acts(before: Any) -> None:
    """A shell starts background jobs with SIGINT ignored; they can be stopped as well."""
    restore = signal.signal(signal.SIGINT, before)
    try:
        with pytest.raises(KeyboardInterrupt), StopSignals() as stop:
            assert stop.requested is None
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.requested == signal.SIGINT
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, restore)


def test_sigterm_where_nobody_notes_it_exits_as_a_shell_expects() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end, exit_when_told():
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == signal.SIGTERM
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "the next one ends the process at once"
        sys.exit(1)  # what Ray makes of it
    assert end.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit) as end, exit_when_told():
        sys.exit(1)
    assert end.value.code == 1, "nobody was told to end"


def test_the_options_import_neither_ray_nor_torch() -> None:
    code = "import sys, cluster.config; print([m for m in ('ray', 'torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
