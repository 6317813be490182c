"""DWA against TorchJD's, whose user says when an epoch ends, and against the benchmark code's moving windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchjd.scalarization import DWA as TorchjdDWA

from mtrl_surgery.methods.dwa import DWA, DwaConfig


def draws(calls: int, tasks: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 3, (calls, tasks)) * np.linspace(1, 0.3, calls)[:, None]


@pytest.mark.parametrize("epoch", [1, 4])
def test_a_run_equals_torchjds_stepped_at_every_epochs_end(epoch: int) -> None:
    method, theirs = DWA(3, DwaConfig(epoch_updates=epoch, temperature=1.5)), TorchjdDWA(temperature=1.5)
    for call, values in enumerate(draws(6 * epoch, 3), start=1):
        losses = torch.tensor(values, requires_grad=True)
        theirs(losses).backward()
        assert losses.grad is not None
        torch.testing.assert_close(method.weights(losses.detach()), losses.grad)
        if call % epoch == 0:
            theirs.step()


def test_the_papers_formula_by_a_list_of_epochs() -> None:
    epoch, history = 5, draws(40, 2)
    method = DWA(2, DwaConfig(epoch_updates=epoch))
    for call, values in enumerate(history):
        begun = call - call % epoch
        older, newer = history[begun - 2 * epoch : begun - epoch], history[begun - epoch : begun]
        ratio = newer.mean(axis=0) / older.mean(axis=0) if call >= 2 * epoch else np.ones(2)
        expected = 2 * np.exp(ratio / 2) / np.exp(ratio / 2).sum()
        np.testing.assert_allclose(method.weights(torch.tensor(values)), expected)


def test_windows_are_the_benchmark_codes() -> None:
    """A buffer of ones, this call included, from call window + 2 on; the weighted losses are averaged."""
    window, tasks, history = 4, 3, draws(30, 3)
    method = DWA(tasks, DwaConfig(window=window, reduction="mean"))
    buffer = [np.ones(tasks)] * (2 * window)
    for call, values in enumerate(history):
        buffer = [*buffer[1:], values]
        ratio = np.mean(buffer[window:], axis=0) / np.mean(buffer[:window], axis=0)
        share = np.exp(ratio / 2) / np.exp(ratio / 2).sum()
        expected = share if call > window else np.full(tasks, 1 / tasks)
        np.testing.assert_allclose(method.weights(torch.tensor(values)), expected)


def weights_after(*epochs: list[float]) -> list[float]:
    """Epochs of one call; the weights of the call after them."""
    method = DWA(len(epochs[0]), DwaConfig(epoch_updates=1))
    for losses in epochs:
        method.weights(torch.tensor(losses))
    weights: list[float] = method.weights(torch.ones(len(epochs[0]))).tolist()
    return weights


def test_a_solved_task_counts_as_unchanged() -> None:
    assert weights_after([0.0, 2.0], [0.0, 2.0]) == [1.0, 1.0]


def test_a_task_that_rises_from_zero_gets_all_the_weight() -> None:
    assert weights_after([0.0, 2.0], [0.5, 2.0]) == [2.0, 0.0]
    assert weights_after([0.0, 0.0], [0.5, 2.0]) == [1.0, 1.0]


@pytest.mark.parametrize("bad", [-1.0, math.nan])
def test_a_negative_mean_or_nan_shows(bad: float) -> None:
    assert all(map(math.isnan, weights_after([1.0, 1.0], [bad, 1.0])))
    assert all(map(math.isnan, weights_after([bad, 1.0], [1.0, 1.0])))
