"""Time the pieces of training on this machine.

usage: mtrl-surgery bench update [tasks=10 batch=128 width=400 updates=20 methods=[ls,samgs,pcgrad,cagrad] ...]
       mtrl-surgery bench methods [tasks=[2,10,50] methods=[samgs,pcgrad] seconds=120 json=FILE ...]
       mtrl-surgery bench rollout [tasks=[reach-v3,...] workers=[1,2] rounds=10 ...]
       mtrl-surgery bench chunks [steps=[1,10,100] tasks=[reach-v3,...] workers=1 rounds=20 ...]
       mtrl-surgery bench model [gpus=8 cores=500 tasks=50 copies=1 env_rate=... update_gflops=... ...]
       mtrl-surgery bench learners [learners=[2,3] methods=[samgs,pcgrad] json=FILE ...]
       mtrl-surgery bench scaling [learners=[1,2] methods=[ls,cagrad,samgs] tasks=10 json=FILE ...]
       mtrl-surgery bench chaos [duration=60 every=5 nodes=3 mode=both env=easy3 seed=0 json=FILE]

`update` times whole SAC updates (critics, actor, temperatures, targets) on random data, the methods taking turns in
one process, and says what each costs relative to the first. `methods` times the critics' update alone, with every
method, as a ratio to the plain update of the summed losses, and holds our own methods to their targets; seconds= is
the time for each number of tasks. `rollout` times Ray's rollout workers, policy included, against Meta-World's own
vector environment with random actions on one core. `chunks` says what Ray costs for a chunk, by its length. `model`
times nothing: it says what would limit a cluster, from what a stage costs. `learners` compares several learners, each
with its share of the batch, with one that has all of it, for every method, and ends with 1 if any differs; `scaling`
times them and counts what they tell each other. `chaos` starts several Ray nodes on this machine and a run in each mode
(sync, async or both), kills or stops a worker, takes away or adds a node every few seconds for duration= seconds, and
ends with 1 unless the run got over everything, no transition is lost or there twice, and the sync run's rows are those
of an undisturbed one to the bit. `bench NAME --help` lists the
keys of one. All print a table; `update`, `rollout` and `chunks` write it with the machine's facts
as JSON into <out>/bench/ (out=runs), `methods` and `chaos` into json=.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mtrl_surgery.cli.arguments import parse, usage, wants_help
from mtrl_surgery.cli.schema import SettingsError, unknown
from mtrl_surgery.cli.screen import listing, rows_of
from mtrl_surgery.commands.bench.chaos import ChaosArguments, bench_chaos
from mtrl_surgery.commands.bench.chunks import ChunksArguments, bench_chunks
from mtrl_surgery.commands.bench.learners import LearnersArguments, bench_learners
from mtrl_surgery.commands.bench.methods import MethodsArguments, bench_methods
from mtrl_surgery.commands.bench.model import ModelArguments, bench_model
from mtrl_surgery.commands.bench.rollout import RolloutArguments, bench_rollout
from mtrl_surgery.commands.bench.scaling import ScalingArguments, bench_scaling
from mtrl_surgery.commands.bench.update import UpdateArguments, bench_update


class Bench(NamedTuple):
    """A benchmark: its options and what runs it."""

    arguments: type[Any]
    run: Callable[[Any], int]


BENCHES: dict[str, Bench] = {
    "update": Bench(UpdateArguments, bench_update),
    "methods": Bench(MethodsArguments, bench_methods),
    "rollout": Bench(RolloutArguments, bench_rollout),
    "chunks": Bench(ChunksArguments, bench_chunks),
    "model": Bench(ModelArguments, bench_model),
    "learners": Bench(LearnersArguments, bench_learners),
    "scaling": Bench(ScalingArguments, bench_scaling),
    "chaos": Bench(ChaosArguments, bench_chaos),
}


def main(words: Sequence[str]) -> int:
    """Run one benchmark."""
    if not words or words[0] in ("-h", "--help"):
        print(usage(__doc__))
        return 0
    if words[0] not in BENCHES:
        raise SettingsError(unknown("bench", words[0], BENCHES))
    if wants_help(words):
        print(
            f"usage: mtrl-surgery bench {words[0]} [KEY=VALUE ...]\n\n{listing(rows_of(BENCHES[words[0]].arguments))}"
        )
        return 0
    bench = BENCHES[words[0]]
    return bench.run(parse(words[1:], bench.arguments))
