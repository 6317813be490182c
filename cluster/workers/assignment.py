"""Which worker does which task: pure functions of measured speeds, so that they can be tested without any cluster.

In sync mode the assignment changes no bit of a run (streams belong to tasks and copies), in async mode no count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

GAIN = 0.1
"""Tasks move only if the last worker then ends this much sooner: a move rebuilds environments."""

_SOONER = 1e-6  # rounding must not look like a gain
_RATE = 0.3  # weight of the newest measurement in the running means
_FASTEST = 0.05  # lower bound of a worker's slowness: a clock that stood still must not attract every task


def assign(
    cost_K: Sequence[float], slowness: Mapping[int, float], current: Mapping[int, int], gain: float = GAIN
) -> dict[int, int]:
    """Share out tasks so that the workers finish at about the same time, moving few.

    Tasks without a worker are placed the longest first, each where it ends soonest (Graham, "Bounds on Multiprocessing
    Timing Anomalies", 1969: at most 4/3 of the best possible end on equal workers). Then tasks move, one by one, away
    from the worker that ends last, as long as that helps; all these moves are done if together they help enough.

    Args:
        cost_K: Seconds of each task's chunk on a worker of slowness 1, all positive.
        slowness: The workers there are, and how many times as long each takes.
        current: Where the tasks are; workers that are no more, and missing tasks, leave a task without a worker.
        gain: Share of the last worker's end that the moves must win.

    Returns:
        The worker of every task, in the order of the tasks.

    Raises:
        ValueError: there is no worker.
    """
    if not slowness:
        raise ValueError("no worker to assign tasks to")
    workers = sorted(slowness)
    owner = {task: worker for task, worker in sorted(current.items()) if worker in slowness}
    finish = dict.fromkeys(workers, 0.0)
    for task, worker in owner.items():
        finish[worker] += slowness[worker] * cost_K[task]

    def put(task: int, worker: int) -> None:
        before = owner.get(task)
        if before is not None:
            finish[before] -= slowness[before] * cost_K[task]
        owner[task] = worker
        finish[worker] += slowness[worker] * cost_K[task]

    def end(task: int, worker: int) -> float:
        return finish[worker] + slowness[worker] * cost_K[task]

    unassigned = set(range(len(cost_K))).difference(owner)
    for task in sorted(unassigned, key=lambda task: (-cost_K[task], task)):
        put(task, min(workers, key=lambda worker: (end(task, worker), worker)))
    settled, settled_end = dict(owner), max(finish.values())
    while True:
        last = min(workers, key=lambda worker: (-finish[worker], worker))
        moves = [
            (max(finish[last] - slowness[last] * cost_K[task], end(task, worker)), task, worker)
            for task, own in owner.items()
            for worker in workers
            if own == last != worker
        ]
        best = min(moves, default=None)
        if best is None or best[0] >= finish[last] * (1 - _SOONER):
            break  # every move before this one lowered the ends in the order of size, so here it does come
        put(*best[1:])
    better = max(finish.values()) < settled_end * (1 - gain)
    return dict(sorted((owner if better else settled).items()))


class Speeds:
    """Running means of what workers report: seconds of a task's vector step, and the slowness of each worker.

    A measurement is their product; a worker's slowness is learned from tasks whose cost is known already.
    """

    def __init__(self, tasks: int) -> None:
        """Nothing is measured yet: all tasks cost the same, all workers are equally fast."""
        self._cost: dict[int, float] = {}
        self._slowness: dict[int, float] = {}
        self._tasks = tasks

    def observe(self, worker: int, seconds: Mapping[int, float], steps: int) -> None:
        """Take in one chunk: the seconds that a worker took for `steps` vector steps of each of some tasks."""
        measured = {task: max(value, 1e-9) / steps for task, value in seconds.items()}
        known = [task for task in measured if task in self._cost]
        if known:
            ratio = sum(measured[task] for task in known) / sum(self._cost[task] for task in known)
            self._slowness[worker] = max(_FASTEST, _mean(self._slowness.get(worker), ratio))
        slowness = self._slowness.get(worker, 1.0)
        for task, value in measured.items():
            self._cost[task] = _mean(self._cost.get(task), value / slowness)

    def restart(self) -> None:
        """What tasks cost has changed, for all of them; how slow the workers are has not."""
        self._cost.clear()

    def forget(self, worker: int) -> None:
        """The worker is no more; the next of that number may run elsewhere."""
        self._slowness.pop(worker, None)

    def slowness(self, worker: int) -> float:
        """How many times as long as an average worker this one takes."""
        return self._slowness.get(worker, 1.0)

    def cost_K(self) -> list[float]:
        """Seconds of a vector step of each task; of a task not measured yet, the mean of the others."""
        unknown = sum(self._cost.values()) / len(self._cost) if self._cost else 1.0
        return [self._cost.get(task, unknown) for task in range(self._tasks)]

    def expected(self, worker: int, tasks: Iterable[int], steps: int) -> float | None:
        """Seconds that the worker should take for a chunk of these tasks; None if one was never measured."""
        costs = [self._cost.get(task) for task in tasks]
        known = [cost for cost in costs if cost is not None]
        return None if len(known) < len(costs) else self.slowness(worker) * steps * sum(known)


def _mean(before: float | None, value: float) -> float:
    return value if before is None else before + _RATE * (value - before)
