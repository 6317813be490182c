"""`bench learners`: whether N learners, each with its share of the batch, are one learner with all of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from mtrl_surgery.cli.schema import SettingsError
from mtrl_surgery.cli.tables import table
from mtrl_surgery.cli.words import PATH
from mtrl_surgery.commands.bench.common import at_least_one, write_results
from mtrl_surgery.commands.bench.processes import together
from mtrl_surgery.methods.config import MethodError
from mtrl_surgery.methods.registry import METHODS, find_method, make_method
from mtrl_surgery.methods.variants import config_of, find_entry, with_variants

if TYPE_CHECKING:
    from torch import Tensor

    from agents.replay import Batch
    from agents.sac import SACLearner
    from mtrl_surgery.jacobian.sharding import Whole

LIMIT = 1e-6
"""Largest difference that passes, as a share of the way that the parameters went."""
OBSERVATION, ACTION = 7, 3


@dataclass
class LearnersArguments:
    """Options of `bench learners`."""

    learners: Annotated[list[int], "numbers of learners to compare with one"] = field(default_factory=lambda: [2, 3])
    methods: Annotated[list[str], "empty: all"] = field(default_factory=list)
    tasks: Annotated[int, "how many"] = 5
    batch: Annotated[int, "transitions a task, of all learners together"] = 12
    width: Annotated[int, "of each hidden layer"] = 16
    layers: Annotated[int, "hidden ones"] = 2
    updates: Annotated[int, "how many, before they are compared"] = 3
    json: Annotated[str | None, PATH, "also write the results to this file"] = None


@dataclass
class Difference:
    """What N learners differ by from one, after some updates.

    Attributes:
        actor: |theta_N - theta_1| over the way that theta_1 went.
        critic: The same.
        temperature: Largest difference of the log temperatures.
    """

    actor: float
    critic: float
    temperature: float

    @property
    def met(self) -> bool:
        """Whether all are below the limit; NaN is not."""
        return all(difference <= LIMIT for difference in (self.actor, self.critic, self.temperature))


def bench_learners(arguments: LearnersArguments) -> int:
    """Compares in float64, for every method; 1 if any differs by more than the limit."""
    for key in ("tasks", "batch", "width", "layers", "updates"):
        at_least_one(key, getattr(arguments, key))
    if not arguments.learners or min(arguments.learners) < 2:
        raise SettingsError(
            f"learners={arguments.learners} must be numbers of at least 2: one is what they are held to"
        )
    for learners in arguments.learners:
        if arguments.batch % learners:
            raise SettingsError(f"batch={arguments.batch} can't be shared out to learners={learners}")
    names = with_variants(dict.fromkeys(find_method(name).name for name in arguments.methods) or METHODS)
    found: dict[int, dict[str, Difference | str]] = {}
    for learners in dict.fromkeys(arguments.learners):
        print(f"{learners} learners: {len(names)} methods", file=sys.stderr)
        found[learners] = compare(arguments, names, learners)
    rows, met = [], True
    for name in names:
        entry = find_entry(name)
        row: list[Any] = [name, entry.needs, entry.origin]
        for differences in found.values():
            one = differences[name]
            met &= isinstance(one, str) or one.met
            row += ["-", "-"] if isinstance(one, str) else [f"{one.actor:.0e}", f"{one.critic:.0e}"]
        rows.append(row)
    columns = [f"{network}, {learners}" for learners in found for network in ("actor", "critic")]
    print(
        f"SAC in float64, {arguments.tasks} tasks, {arguments.batch} transitions a task, {arguments.updates} updates: "
        "how far N learners end from where one does, by the way it went"
    )
    print(table(["method", "needs", "origin", *columns], rows, numbers=range(3, 3 + len(columns))))
    refused = {name: one for name, one in next(iter(found.values())).items() if isinstance(one, str)}
    for name, reason in refused.items():
        print(f"{name} can't run here: {reason}")
    print(f"limit {LIMIT:g}: {'met by all' if met else 'NOT met'}")
    if arguments.json is not None:
        results = {
            n: {name: vars(d) if isinstance(d, Difference) else d for name, d in ds.items()} for n, ds in found.items()
        }
        write_results(Path(arguments.json), vars(arguments), {"limit": LIMIT, "differences": results})
    return 0 if met else 1


def compare(arguments: LearnersArguments, names: list[str], learners: int) -> dict[str, Difference | str]:
    """Method -> what its learners differ by, or why it can't run."""
    return together(_compare, learners, (arguments, names))


def _compare(sharding: Whole, asked: tuple[LearnersArguments, list[str]]) -> dict[str, Difference | str]:
    """In every process; the first also is the one learner that all are compared with."""
    import torch

    torch.set_default_dtype(torch.float64)
    arguments, names = asked
    found: dict[str, Difference | str] = {}
    for name in names:
        try:
            mine = build_agent(arguments, name, sharding)
        except MethodError as error:  # some methods have no defaults to run with: the same in every process
            found[name] = str(error)
            continue
        whole = build_agent(arguments, name, None)
        start = {network: getattr(whole, network).parameters.vector_P.clone() for network in ("actor", "critic")}
        generator = torch.Generator().manual_seed(0)
        for _ in range(arguments.updates):
            batch, noise_2KBA = random_batch(arguments, generator)
            mine.step(*share(batch, noise_2KBA, sharding))
            if sharding.rank == 0:
                whole.step(batch, noise_2KBA)
        if sharding.rank == 0:
            found[name] = _difference(whole, mine, start)
    return found


class Sizes(Protocol):
    """What decides an agent's and a batch's shapes."""

    tasks: int
    batch: int
    width: int
    layers: int


def build_agent(arguments: Sizes, name: str, sharding: Whole | None) -> SACLearner:
    """An agent of these sizes, in torch's default dtype.

    Raises:
        MethodError: the method has no defaults.
    """
    import numpy as np

    from agents.config import AgentConfig
    from agents.problem import Problem
    from agents.sac import SACLearner

    tasks = arguments.tasks
    problem = Problem(tuple(f"task{k}" for k in range(tasks)), OBSERVATION, ACTION, np.ones((tasks, ACTION)))
    config = AgentConfig(
        hidden_sizes=[arguments.width] * arguments.layers, batch_size=arguments.batch, replay_capacity=arguments.batch
    )
    methods = [make_method(config_of(name), tasks, network) for network in range(2)]
    agent = SACLearner(problem, config, methods[0], methods[1], 0, "cpu", sharding=sharding)
    for parameters in (agent.critic.parameters, agent.target):
        list(parameters.views().values())[-1].fill_(-10.0)  # losses above zero, which some methods ask for
    return agent


def random_batch(arguments: Sizes, generator: Any) -> tuple[Batch, Tensor]:
    """Transitions whose rewards differ between tasks, and the noise for the actions."""
    import torch

    from agents.replay import Batch

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tasks, batch = arguments.tasks, arguments.batch
    scale_K1 = torch.logspace(0, 1, tasks)[:, None]
    return (
        Batch(
            normal(tasks, batch, OBSERVATION),
            normal(tasks, batch, ACTION).tanh(),
            normal(tasks, batch, OBSERVATION),
            normal(tasks, batch).abs() * scale_K1,
            torch.zeros(tasks, batch),
        ),
        normal(2, tasks, batch, ACTION),
    )


def share(batch: Batch, noise_2KBA: Tensor, sharding: Whole) -> tuple[Batch, Tensor]:
    """This learner's part of a joined batch."""
    own = slice(sharding.rank, None, sharding.size)
    return type(batch)(*(part_KB[:, own] for part_KB in batch)), noise_2KBA[:, :, own]


def _difference(whole: SACLearner, mine: SACLearner, start: dict[str, Tensor]) -> Difference:
    def relative(network: str) -> float:
        one, many = (getattr(agent, network).parameters.vector_P for agent in (whole, mine))
        return float((many - one).norm() / (one - start[network]).norm())

    apart = float((whole.log_temperature - mine.log_temperature).abs().max())
    return Difference(relative("actor"), relative("critic"), apart)
