"""Gradient surgery in anyone's training loop: `Surgery("samgs", num_tasks=3).backward(losses)`."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from mtrl_surgery.jacobian.conflict import conflict_diagnostics, conflict_map
from mtrl_surgery.jacobian.shared_engine import SharedEngine
from mtrl_surgery.jacobian.shared_features import FeatureEngine, given_features
from mtrl_surgery.jacobian.shared_graph import edge_of, given_losses, starts_of, walk
from mtrl_surgery.jacobian.shared_missing import of_all_tasks, present_only
from mtrl_surgery.jacobian.shared_roles import RoleBook, Roles
from mtrl_surgery.jacobian.shared_rows import RowPass, WatchedModel
from mtrl_surgery.jacobian.shared_step import Batch, MicroBatches, SharedStep
from mtrl_surgery.jacobian.shared_team import Processes, Report, Team, agree
from mtrl_surgery.methods.base import AnyMethod, JacobianMethod, Method
from mtrl_surgery.methods.config import MethodConfig, MethodError
from mtrl_surgery.methods.registry import find_method, make_method
from mtrl_surgery.tensors import NonFiniteError

Losses = Iterable[Tensor | None] | Tensor


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    """A backward pass is in the precision of its forward pass, also where autocast is still on."""
    with contextlib.ExitStack() as off:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                off.enter_context(torch.autocast(device, enabled=False))
        yield


class Surgery:
    """Fills `.grad`: of shared parameters with a method's direction, of a task's own ones with that task's gradient.

    Args:
        method: A code name (`python -m mtrl_surgery methods` lists them), a config, or a method.
        num_tasks: K; may be left out for a method.
        model: Its layers have one backward pass for all tasks, where every row of a batch belongs to one task.
        seed: Seeds the method's random numbers.
        max_norm: The direction's greatest norm over the shared parameters; None for any.
        max_jacobian_bytes: A Gramian method's Jacobian that would be larger is never built (see docs/library.md).
        process_group: Processes with a shard of the batch each (`torch.distributed.group.WORLD` for all of them): every
            one gets the `.grad` of the whole batch. None for this process alone.
        **options: The method's, such as `gamma=0.5`.

    Raises:
        MethodError: for an unknown method or option, or a value that it does not take.
    """

    def __init__(
        self,
        method: str | MethodConfig | AnyMethod,
        num_tasks: int | None = None,
        *,
        model: nn.Module | None = None,
        seed: int = 0,
        max_norm: float | None = None,
        max_jacobian_bytes: int = 2**32,
        process_group: ProcessGroup | None = None,
        **options: Any,
    ) -> None:
        if type(seed) is not int:
            raise MethodError(f"seed={seed!r}: must be a whole number")
        bounds = {"num_tasks": num_tasks, "max_jacobian_bytes": max_jacobian_bytes, "max_norm": max_norm}
        for name, value in bounds.items():
            kinds, said = ((int, float), "a number") if name == "max_norm" else ((int,), "a whole number")
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not value > 0):
                raise MethodError(f"{name}={value!r}: must be {said} above 0, or None")
        self.method = _make(method, num_tasks, seed, options)
        self.num_tasks = self.method.num_tasks
        self._group = process_group
        self._step = SharedStep(self.method, max_norm, max_jacobian_bytes)
        self._book = RoleBook()
        self._model = None if model is None else WatchedModel(model)
        self._earlier: MicroBatches | None = None

    @property
    def skipped(self) -> int:
        """Steps that a scaler's non-finite gradients spoilt; the method has not seen them."""
        return self._step.skipped

    @property
    def first_bad_call_K(self) -> Tensor:
        """The first call of `backward` at which a task's loss or gradient was not finite, or -1."""
        return self._step.first_bad_call_K

    @_without_autocast()
    def backward(
        self,
        losses: Losses,
        shared_parameters: Iterable[Tensor] | None = None,
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
        *,
        features: Tensor | Iterable[Tensor] | None = None,
        task_of_row: Tensor | Sequence[int] | None = None,
        scaler: torch.amp.GradScaler | None = None,
        diagnose: bool = False,
        look: bool | None = None,
    ) -> None:
        """Adds to `.grad` as `loss.backward()` does, and frees the graph.

        Args:
            losses: A list of K scalars, None for a task that is missing from the batch; or a tensor [K].
            shared_parameters: What the method's direction is for. By default, the parameters that two tasks or more
                reach in the first batch.
            task_parameters: K collections of parameters. By default, those that one task only reaches.
            features: Where the trunk ends: the method sees the gradients by these tensors instead. Shared parameters
                past them get the tasks' gradients by the same weights.
            task_of_row: For a watched model, the task of each row of the batch, -1 for none, [B]; best on the CPU. By
                default it is found at the model's outputs, which takes a short pass a task and waits for the device.
            scaler: Scales the losses; `.grad` is left scaled.
            diagnose: Also measure conflicts for a loss weighting, which then costs a Jacobian, and the direction's
                cosines with the tasks' gradients for any method.
            look: The former name of `diagnose`.

        Raises:
            MethodError: for losses, parameters or features that do not fit together, or a missing `observe`.
        """
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise MethodError(f"scaler is a {type(scaler).__name__}: give a torch.amp.GradScaler")
        if look is not None:
            warnings.warn("Surgery.backward: look= is called diagnose= now", DeprecationWarning, stacklevel=3)
            diagnose = look
        with self._all_hear():
            if features is not None and self._earlier is not None:
                raise MethodError("features: their gradients cannot be accumulated over batches")
            batch = self._batch(losses, shared_parameters, task_parameters, features, scaler, task_of_row)
            earlier, self._earlier = self._earlier, None
            if earlier is not None:
                earlier.add(batch)
        batch.team = self._team(batch, earlier)
        if earlier is None:
            self._step.run(batch, diagnose)
        else:
            self._step.run_micro_batches(earlier, batch, diagnose)

    @_without_autocast()
    def accumulate(
        self,
        losses: Losses,
        shared_parameters: Iterable[Tensor] | None = None,
        task_parameters: Sequence[Iterable[Tensor]] | None = None,
        *,
        task_of_row: Tensor | Sequence[int] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """For all micro-batches but the last: adds to the Jacobian that `backward` will operate on once.

        The whole Jacobian is kept in between, also for a loss weighting. Arguments as for `backward`.
        """
        batch = self._batch(losses, shared_parameters, task_parameters, None, scaler, task_of_row)
        earlier = self._earlier or MicroBatches(self.num_tasks)
        earlier.add(batch)
        self._earlier = earlier

    def observe(self, losses: Losses) -> None:
        """After `optimizer.step()`, for methods that need it (FAMO): the same batch's losses again.

        Raises:
            MethodError: without a `backward` before it, or for losses of other tasks.
        """
        if not self.method.needs_losses_after_step:
            return
        owed = self._step.owes
        if owed is None:
            raise MethodError(f"{self.method.name}: observe() comes after backward() and optimizer.step()")
        given = list(losses)
        tasks = [task for task, loss in enumerate(given) if loss is not None]
        team = Team(tasks) if self._group is None else Processes(self._group, Report(tasks=tuple(tasks)))
        if len(given) != self.num_tasks or (owed and team.tasks != owed):
            raise MethodError(
                f"observe: losses of the tasks {team.tasks} out of {len(given)}, but backward() saw {owed}"
            )
        if owed:
            values = [loss.detach().reshape(()) for loss in given if loss is not None]
            losses_K = team.losses(torch.stack(values).to(self.first_bad_call_K.device))
            with present_only(self.method, team.tasks) as method:
                method.observe(losses_K)
        self._step.owes = None

    def diagnostics(self) -> dict[str, Tensor]:
        """What the last `backward` measured, on the device: the method's own (`weights_K`) and `direction_norm`.

        Where gradients were seen, also how they conflicted: `conflict_diagnostics` over pairs, `conflict_map` pair by
        pair. Where it was asked to diagnose, `alignment_K`: the cosines between the direction and the tasks' gradients,
        below 0 where the step raises the task's loss. Of a missing task, these are NaN.
        """
        step = self._step
        found: dict[str, Tensor] = {}
        if step.gramian_KK is not None:
            found = conflict_diagnostics(step.gramian_KK) | conflict_map(step.gramian_KK)
        if step.alignment_K is not None:
            found["alignment_K"] = step.alignment_K
        conflicts = of_all_tasks(found, step.seen, self.num_tasks, torch.nan)
        return {**self.method.diagnostics(), "direction_norm": step.direction_norm, **conflicts}

    def check(self) -> None:
        """Whether all losses and gradients so far were finite; waits for the device, so call it when you log.

        Raises:
            NonFiniteError: naming the tasks and their first bad calls.
        """
        first = self.first_bad_call_K.tolist()
        bad = [f"task {task} (call {call})" for task, call in enumerate(first) if call >= 0]
        if bad:
            raise NonFiniteError(f"{self.method.name}: a loss or a gradient was NaN or infinite: {', '.join(bad)}")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next direction depends on.

        Raises:
            MethodError: between `accumulate` and `backward`.
        """
        if self._earlier is not None:
            raise MethodError("state_dict: not between accumulate() and backward()")
        return {
            "method": copy.deepcopy(self.method.state_dict()),
            "calls": self._step.calls,
            "skipped": self._step.skipped,
            "first_bad_call_K": self.first_bad_call_K.clone(),
            "owes": self._step.owes,
            "layout": self._book.layout,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken, to the bit.

        Raises:
            MethodError: for a state of another method or number of tasks, or none of ours.
        """
        wanted = self.state_dict().keys()
        if wanted != dict(state).keys():
            found = ", ".join(map(str, state))
            raise MethodError(f"load_state_dict: {found} is no state of a Surgery; its keys are {', '.join(wanted)}")
        if (tasks := len(state["first_bad_call_K"])) != self.num_tasks:
            raise MethodError(f"load_state_dict: the state is one of {tasks} tasks, and num_tasks={self.num_tasks}")
        self.method.load_state_dict(state["method"])
        step = self._step
        step.calls, step.skipped, step.owes = state["calls"], state["skipped"], state["owes"]
        step.first_bad_call_K = state["first_bad_call_K"].to(step.first_bad_call_K.device, copy=True)
        self._earlier = None
        self._book = RoleBook()
        self._book.layout = state["layout"]

    def _batch(
        self,
        losses: Losses,
        shared_parameters: Iterable[Tensor] | None,
        task_parameters: Sequence[Iterable[Tensor]] | None,
        features: Tensor | Iterable[Tensor] | None,
        scaler: torch.amp.GradScaler | None,
        task_of_row: Tensor | Sequence[int] | None,
    ) -> Batch:
        if self._step.owes is not None:
            raise MethodError(f"{self.method.name}: call observe(losses) with the same batch after optimizer.step()")
        found = given_losses(losses, self.num_tasks)
        tasks, values = list(found), list(found.values())
        ends = None if features is None else given_features(features)
        starts = starts_of(values)
        heads = walk(starts, [edge_of(tensor) for tensor in ends or ()])
        first = self._book.layout is None
        roles = self._book.roles(heads, tasks, self.num_tasks, shared_parameters, task_parameters, ends)
        present = Roles(roles.shared, [roles.own[task] for task in tasks])
        device = roles.shared[0].device
        self._step.to(device)
        scaled = scaler is not None and scaler.is_enabled()
        scale = scaler.scale(torch.ones((), device=device)) if scaled and scaler is not None else None
        engine: SharedEngine
        if ends is not None:
            engine = FeatureEngine(values, heads, ends, self.method, present, scale)
        else:
            # The first batch's losses tell how they are computed.
            joined = first and shared_parameters is None and task_parameters is None and not any(roles.own)
            reached = {id(leaf) for leaf in heads.tasks}
            task_B = None if task_of_row is None else self._task_of_row(task_of_row, tasks)
            rows = None if self._model is None else partial(RowPass, self._model, task_B, values, starts)
            engine = SharedEngine(values, present, reached, scale, joined, rows)
        losses_K = torch.stack([loss.detach().reshape(()).to(device, engine.dtype) for loss in values])
        return Batch(tasks, losses_K, roles, scale, engine, Team(tasks))

    def _task_of_row(self, given: Tensor | Sequence[int], tasks: Sequence[int]) -> Tensor:
        """Of each row, its task's place among the present ones, or -1, [B] on the CPU."""
        if self._model is None:
            raise MethodError("task_of_row: say which model has the rows: Surgery(..., model=...)")
        task_B = torch.as_tensor(given).cpu()
        if task_B.dim() != 1 or task_B.is_floating_point() or task_B.is_complex() or task_B.dtype == torch.bool:
            raise MethodError(
                f"task_of_row has shape {tuple(task_B.shape)} and dtype {task_B.dtype}: give one whole number a row"
            )
        if len(task_B) and not -1 <= int(task_B.min()) <= int(task_B.max()) < self.num_tasks:
            wrong = next(task for task in task_B.tolist() if not -1 <= task < self.num_tasks)
            raise MethodError(f"task_of_row names task {wrong}: give 0 to {self.num_tasks - 1}, or -1 for none")
        place_K = torch.full((self.num_tasks + 1,), -1)  # the last is that of no task
        place_K[tasks] = torch.arange(len(tasks))
        return place_K[task_B.long()]

    def _team(self, batch: Batch, earlier: MicroBatches | None) -> Team:
        """The processes, once each knows what the others' shards have."""
        tasks = batch.tasks if earlier is None else earlier.tasks
        if self._group is None:
            return Team(tasks)
        shared, own = batch.roles.shared, batch.roles.own
        reached = batch.engine.reached if earlier is None else earlier.reached(shared)
        features = batch.engine.shapes if isinstance(batch.engine, FeatureEngine) else ()
        report = Report(
            tasks=tuple(tasks),
            shapes=tuple(tuple(tensor.shape) for tensor in shared),
            features=features if isinstance(self.method, JacobianMethod) else (),
            shared=tuple(id(tensor) in reached for tensor in shared),
            own=tuple(tuple(id(tensor) in reached for tensor in group) for group in own),
        )
        return Processes(self._group, report, own, batch.losses_K)

    @contextlib.contextmanager
    def _all_hear(self) -> Iterator[None]:
        """What this process's batch does wrong, every process raises."""
        try:
            yield
        except MethodError as error:
            if self._group is not None:
                agree(self._group, Report(error=str(error)))
            raise


def _make(
    method: str | MethodConfig | AnyMethod, num_tasks: int | None, seed: int, options: dict[str, Any]
) -> AnyMethod:
    if not isinstance(method, str | MethodConfig | Method):
        raise MethodError(f"method={method!r}: give a name, a config or a method")
    if isinstance(method, str):
        config = find_method(method).config
        choices = [field.name for field in fields(config) if field.metadata]
        for name in options:
            if name not in choices:
                raise MethodError(f"{method} has no option {name!r}; choices: {', '.join(choices) or 'none'}")
        method = config(**options)
    elif options:
        raise MethodError(f"{', '.join(options)}: options go with a method's name, not with {type(method).__name__}")
    if isinstance(method, Method):
        if num_tasks not in (None, method.num_tasks):
            raise MethodError(f"num_tasks={num_tasks}, but the method was made for {method.num_tasks}")
        return method
    if num_tasks is None:
        raise MethodError("num_tasks is missing")
    return make_method(method, num_tasks, seed)
