"""Kill parts of a real run on a cluster of several Ray nodes on this machine, and check that it loses nothing.

usage: python -m benchmarks chaos [KEY=VALUE ...]

{keys}

Every few seconds a worker is killed or stopped, or a node is taken away or added. The exit code is 1 unless the run
got over every fault, no transition is lost or there twice, and the rows of a sync run are those of an undisturbed one
to the bit.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from benchmarks.chaos.counts import Counts, count
from benchmarks.chaos.faults import LEARNER, TARGETS, Fault, FaultTarget
from benchmarks.chaos.nodes import LocalNodes
from benchmarks.timing import at_least_one, write_results
from cluster.workers.session import keep_to_this_machine
from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError, check_choice
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.console import table
from mtrl_surgery.runs.folder import read_rows

CHUNK = 200  # vector steps of a chunk: long enough that faults fall into the middle of one
SLOW = 300.0  # seconds that a run may take to begin, to recover from one fault, or to stop
WORDS = (
    "method=pcgrad", "agent.hidden_sizes=[32,32]", "agent.batch_size=16", "agent.warmup_steps=400",
    "agent.updates_per_step=0.05", "agent.replay_capacity=500000", "device=cpu", "threads=1", "log_every=400",
    "checkpoint.every=2000", "evaluation.every=4000", "evaluation.episodes=1", "evaluation.final_episodes=1",
    "logger.console=false", f"cluster.chunk_steps={CHUNK}", "cluster.hang_timeout=4",
)  # fmt: skip


@dataclass
class Arguments:
    """Options of `chaos`."""

    duration: Annotated[float, "seconds of faults, for each mode"] = 60.0
    every: Annotated[float, "seconds between two faults, on average"] = 5.0
    nodes: Annotated[int, "one CPU each; the head is never lost"] = 3
    mode: Annotated[str, "sync | async | both"] = "both"
    learners: Annotated[int, "from 2 on they are processes of the cluster, and are targets too"] = 1
    env: Annotated[str, "a choice of the train command's env group"] = "easy3"
    seed: Annotated[int, "of the faults and of the run"] = 0
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


@dataclass
class Outcome:
    """The course of one mode's run.

    Attributes:
        mode: sync or async.
        steps: Vector steps of the run.
        faults: Each fault, seconds into the run, and the seconds until the run had recovered from it; None: it has not.
        counts: Of its replay.
        equal: Sync: whether its rows are an undisturbed run's to the bit.
        dropped: Chunks ordered again, by reason.
    """

    mode: str
    steps: int
    faults: list[tuple[str, float, float | None]]
    counts: Counts
    equal: bool | None
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Whether the run is what it would have been."""
        return self.counts.exact and self.equal is not False and all(seconds is not None for *_, seconds in self.faults)

    @property
    def recoveries(self) -> list[float]:
        """Seconds of every recovery."""
        return [seconds for *_, seconds in self.faults if seconds is not None]


def main(words: Sequence[str]) -> int:
    """Inject faults, recover, count; 1 if a transition was lost or is there twice, or a sync run's rows differ."""
    if wants_help(words):
        print(usage(__doc__, Arguments))
        return 0
    arguments = parse(words, Arguments)
    at_least_one("nodes", arguments.nodes)
    at_least_one("learners", arguments.learners)
    check_choice("mode", arguments.mode, ("sync", "async", "both"))
    for key in ("duration", "every"):
        if not getattr(arguments, key) > 0:
            raise SettingsError(f"{key}={getattr(arguments, key)} must be positive (seconds)")
    modes = ("sync", "async") if arguments.mode == "both" else (arguments.mode,)
    with tempfile.TemporaryDirectory(prefix="mtrl-chaos-") as folder:
        outcomes = [_disturb(arguments, mode, Path(folder)) for mode in modes]
    print(report(outcomes))
    if arguments.json is not None:
        results = {one.mode: asdict(one) | {"sound": one.sound} for one in outcomes}
        write_results(Path(arguments.json), vars(arguments), results)
    return 0 if all(one.sound for one in outcomes) else 1


def report(outcomes: list[Outcome]) -> str:
    """A table of the faults, and one of what they did to the runs."""
    faults = [
        (one.mode, f"{at:.1f}", what, "never" if seconds is None else f"{seconds:.1f}")
        for one in outcomes
        for what, at, seconds in one.faults
    ]
    sums = [
        (
            one.mode,
            f"{one.steps:,}",
            f"{len(one.faults)}",
            f"{statistics.median(one.recoveries):.1f}" if one.recoveries else "-",
            f"{max(one.recoveries):.1f}" if one.recoveries else "-",
            f"{sum(one.dropped.values())}",
            f"{one.counts.lost}",
            f"{one.counts.duplicated}",
            "-" if one.equal is None else "yes" if one.equal else "NO",
        )
        for one in outcomes
    ]
    header = ("mode", "steps", "faults", "median s", "max s", "chunks redone", "lost", "duplicated", "equal to the bit")
    return "\n\n".join(
        [
            table(("mode", "at, s", "what", "recovered in, s"), faults, numbers=(1, 3)),
            table(header, sums, numbers=(1, 2, 3, 4, 5, 6, 7)),
        ]
    )


def _disturb(arguments: Arguments, mode: str, folder: Path) -> Outcome:
    """One run: disturbed for as long as asked, stopped by a signal, finished without faults, and counted."""
    out = folder / mode
    with _nodes(arguments.nodes) as nodes:
        words = [f"env={arguments.env}", f"seed={arguments.seed}", *WORDS, f"out={out}", f"cluster.mode={mode}"]
        words += [
            f"learner.num={arguments.learners}",
            "learner.cpus=0",
            "learner.timeout=60",
            "learner.max_restarts=1000",
        ]
        joins = ["cluster=ray", f"cluster.address={nodes.address}"]
        driver = _train([*words, *joins, "total_steps=100000000"])
        try:
            run = _begun(driver, out)
            faults = _inject_for(arguments, nodes, driver, run)
            driver.terminate()
            _ended(driver, 143, "the disturbed run")
        finally:
            driver.kill()
            driver.wait()
        steps = _next_chunk(run)
        _ended(_train([f"resume={run}", joins[1], f"total_steps={steps}"]), 0, "its resume")
    equal = None
    if mode == "sync":
        plain = folder / "undisturbed"
        alone = ["cluster=inline"] if arguments.learners == 1 else ["cluster=local", "cluster.workers=1"]
        _ended(_train([*words, f"out={plain}", *alone, f"total_steps={steps}"]), 0, "the undisturbed run")
        (other,) = plain.iterdir()
        equal = all(
            (run / name).read_bytes() == (other / name).read_bytes() for name in ("metrics.jsonl", "evaluations.jsonl")
        )
    return Outcome(mode, steps, faults, count(run, steps, copies=1), equal, _dropped(run))


def _inject_for(
    arguments: Arguments, nodes: LocalNodes, driver: subprocess.Popen[str], run: Path
) -> list[tuple[str, float, float | None]]:
    """Faults at random times, then time to get over the last ones."""
    rng, started = random.Random(arguments.seed), time.time()
    done: list[tuple[FaultTarget, Fault]] = []
    targets = [*TARGETS, LEARNER] if arguments.learners > 1 else TARGETS
    turns: list[FaultTarget] = []  # every kind once before any comes twice
    while time.time() - started < arguments.duration:
        time.sleep(rng.uniform(0.5, 1.5) * arguments.every)
        _check_alive(driver)
        turns += rng.sample(targets, len(targets))
        for target in turns:
            fault = target.inject(nodes, rng)
            if fault is not None:
                print(f"{fault.at - started:6.1f} s  {fault.what}", file=sys.stderr)
                done.append((target, fault))
                turns.remove(target)
                break
    if len(nodes.nodes) < nodes.wanted:
        nodes.add()  # whoever waits for a CPU gets one
    last = time.time()
    while True:
        rows, late = read_rows(run / "health.jsonl"), time.time() > last + SLOW
        ends = [target.recovered(fault, rows) for target, fault in done]
        goes_on = any(row["time"] > last and "updates_per_s" in row for row in rows)  # all learners have answered since
        if late and not goes_on:
            raise SettingsError(f"the run did not go on within {SLOW:.0f} s of the last fault")
        if (goes_on and None not in ends) or late:
            return [
                (fault.what, fault.at - started, None if end is None else max(0.0, end - fault.at))
                for (_, fault), end in zip(done, ends, strict=True)
            ]
        _check_alive(driver)
        time.sleep(0.5)


@contextmanager
def _nodes(number: int) -> Iterator[LocalNodes]:

    keep_to_this_machine()
    nodes = LocalNodes(cpus=1)
    try:
        for _ in range(number - 1):
            nodes.add()
        nodes.wanted = number
        yield nodes
    finally:
        nodes.close()


def _train(words: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mtrl_surgery", "train", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _begun(driver: subprocess.Popen[str], out: Path) -> Path:
    """The run's folder, once the policy collects chunks."""
    deadline = time.monotonic() + SLOW
    while time.monotonic() < deadline:
        _check_alive(driver)
        for file in out.glob("*/metrics.jsonl"):
            if any(row["updates"] > 0 for row in read_rows(file)):
                return file.parent
        time.sleep(0.2)
    raise SettingsError(f"the run did not begin within {SLOW:.0f} s")


def _check_alive(driver: subprocess.Popen[str]) -> None:
    if driver.poll() is not None:
        _ended(driver, -1, "the disturbed run")


def _ended(driver: subprocess.Popen[str], code: int, name: str) -> None:
    """Wait for the driver's end.

    Raises:
        SettingsError: it ended with another exit code; with the last lines that it said.
    """
    try:
        _, said = driver.communicate()
    finally:
        driver.kill()  # one that is no more waited for
    if driver.returncode != code:
        last = "\n".join(said.strip().splitlines()[-12:])
        raise SettingsError(f"{name} ended with exit code {driver.returncode}:\n{last}")


def _next_chunk(run: Path) -> int:
    """The end of the first chunk that the run's checkpoint doesn't hold whole."""
    checkpoint = CheckpointStore(run / "checkpoints", keep=1).newest()
    if checkpoint is None:
        raise SettingsError(f"{run} has no whole checkpoint")
    done: int = max([checkpoint.step + checkpoint.state.get("inserted", 0), *checkpoint.state.get("steps", [])])
    return CHUNK * (done // CHUNK + 1)


def _dropped(run: Path) -> dict[str, int]:
    """Chunks of the disturbed run that were dropped, by reason, but for those in flight when it was stopped."""
    *lives, _ = [
        row for row in read_rows(run / "health.jsonl") if row.get("event") == "end"
    ]  # the last is the resume's
    dropped: Counter[str] = Counter()
    for life in lives:  # a new one with every new group of learners
        dropped.update(life["chunks_dropped"])
    return {reason: number for reason, number in dropped.items() if reason != "run ended"}
