"""Per-task gradients of losses that share an input: one backward pass a task, as a plain loop would make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from mtrl_surgery.jacobian.shared_blocks import Block, Blocks, Gradients
from mtrl_surgery.jacobian.shared_graph import check_plain, dense, gradients
from mtrl_surgery.jacobian.shared_roles import Roles
from mtrl_surgery.jacobian.shared_rows import RowPass
from mtrl_surgery.jacobian.shared_team import Team
from mtrl_surgery.methods._common import gramian
from mtrl_surgery.methods.config import MethodError


class SharedEngine:
    """One batch's losses: the K present tasks are numbered from 0 here.

    Args:
        losses: One scalar a task.
        roles: The parameters, with the present tasks' own.
        reached: The ids of the parameters that a loss reaches.
        scale: The losses are multiplied with it, a scalar tensor; None for 1. Jacobians and directions are unscaled.
        joined: Whether every loss reaches every parameter, as the graph says; then the gradients must tell them apart.
        rows: Makes the pass of all tasks at once, from the losses' seeds and the dtype; None for one pass a task.

    Raises:
        MethodError: for a complex shared parameter.
    """

    def __init__(
        self,
        losses: Sequence[Tensor],
        roles: Roles,
        reached: set[int],
        scale: Tensor | None,
        joined: bool = False,
        rows: Callable[[Sequence[Tensor], torch.dtype], RowPass] | None = None,
    ) -> None:
        self.roles, self.reached = roles, reached
        self.num_tasks = len(losses)
        self._losses, self._scale, self._joined = losses, scale, joined
        self._moved: list[Tensor] = []  # of each parameter, whether each task moves it, [K]
        # A layer that was frozen since the first batch keeps its columns.
        self._shared = [tensor for tensor in roles.shared if tensor.requires_grad and id(tensor) in reached]
        self._own = [[tensor for tensor in own if tensor.requires_grad] for own in roles.own]
        for tensor in self._shared:
            check_plain(tensor)
        self.dtype = torch.float64 if any(p.dtype == torch.float64 for p in roles.shared) else torch.float32
        self._make_row_pass = rows
        self.own_gradients: list[Gradients] = [[] for _ in roles.own]
        """Each task's own parameters with their gradients, scaled; complete after `jacobian` or `gramian`."""

    @property
    def shared_sizes(self) -> list[int]:
        """Elements of each shared parameter."""
        return [tensor.numel() for tensor in self.roles.shared]

    @property
    def jacobian_bytes(self) -> int:
        """Memory of the whole Jacobian."""
        return self.num_tasks * sum(self.shared_sizes) * torch.finfo(self.dtype).bits // 8

    @property
    def is_fresh(self) -> bool:
        """Whether no parameter has a `.grad`."""
        return all(tensor.grad is None for tensor in self._wanted)

    @property
    def _wanted(self) -> list[Tensor]:
        return list({id(p): p for group in (self._shared, *self._own) for p in group}.values())

    def weighted_losses(self, weights_K: Tensor) -> tuple[Blocks, list[Gradients]]:
        """One plain backward of the weighted sum of the losses.

        Returns:
            The gradient as one row over the shared parameters, and that of each task's own parameters (scaled).
        """
        wanted = self._wanted
        found = gradients(self._losses, wanted, self._seeds(weights_K))
        by_id = {id(p): grad for p, grad in zip(wanted, found, strict=True) if grad is not None}
        own = [[(p, by_id[id(p)]) for p in group if id(p) in by_id] for group in self._own]
        return self._row([by_id.get(id(p)) for p in self.roles.shared]), own

    def backward_weighted(self, weights_K: Tensor) -> Tensor:
        """The same where no `.grad` is there yet: torch's own backward puts the gradients, scaled, where they belong.

        Returns:
            The norm of the shared parameters' gradients, unscaled.
        """
        torch.autograd.backward(self._losses, self._seeds(weights_K), inputs=self._wanted)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._shared if p.grad is not None])
        return norm if self._scale is None else norm / self._scale

    def jacobian(self) -> Blocks:
        """Every task's gradient by the shared parameters; frees the graph.

        Raises:
            MethodError: for a sparse gradient, or losses whose graphs are joined before they can be told apart.
        """
        blocks = self._rows(self._shared, own=True, retain=False)
        self._check_apart()
        by_id = {id(p): block for p, block in zip(self._shared, blocks, strict=True)}
        return Blocks([by_id.get(id(p)) for p in self.roles.shared], self.shared_sizes)

    def gramian(self, max_bytes: int, team: Team) -> Tensor:
        """The Gramian [K, K], with at most `max_bytes` of the Jacobian, or one parameter's K rows, in memory.

        Each part of the parameters that fits costs one pass a task. The graph stays for `combined`.

        Args:
            max_bytes: The bound.
            team: The processes whose rows are averaged; K is the number of its tasks.
        """
        width = self.num_tasks * torch.finfo(self.dtype).bits // 8
        device = self.roles.shared[0].device
        gramian_KK = torch.zeros(len(team.tasks), len(team.tasks), dtype=self.dtype, device=device)
        asked = {id(p) for p in self._shared}
        at_once = [p for p in self._shared if team.size == 1 and self._at_once(p)]
        if at_once and self._row_pass is not None:

            def add(_: Tensor, block: Tensor) -> None:
                gramian_KK.add_(gramian(self._complete(block)))

            self._row_pass.run(at_once, add, retain=True)
            asked -= {id(p) for p in at_once}
        for first, part in self._parts(max_bytes // width):
            here = [p for p in part if id(p) in asked]
            blocks = self._rows(here, own=first == 0, retain=True)
            by_id = {id(p): block for p, block in zip(here, blocks, strict=True)}
            mine = [by_id.get(id(p)) for p in part]
            for block in team.sum_part(first, mine, [p.numel() for p in part]):
                if block is not None:
                    gramian_KK += gramian(block).to(device)
        self._check_apart()
        return gramian_KK

    def combined(self, weights_K: Tensor) -> Blocks:
        """`weights @ jacobian` as one row, by one plain backward; after `gramian`; frees the graph."""
        found = gradients(self._losses, self._shared, self._seeds(weights_K))
        by_id = {id(p): grad for p, grad in zip(self._shared, found, strict=True)}
        return self._row([by_id.get(id(p)) for p in self.roles.shared])

    def _parts(self, columns: int) -> Iterator[tuple[int, list[Tensor]]]:
        """The shared parameters in parts of at most so many columns, or of one parameter; with their first's number."""
        part: list[Tensor] = []
        for number, tensor in enumerate(self.roles.shared):
            if part and sum(p.numel() for p in part) + tensor.numel() > columns:
                yield number - len(part), part
                part = []
            part.append(tensor)
        yield len(self.roles.shared) - len(part), part

    def _rows(self, parameters: Sequence[Tensor], own: bool, retain: bool) -> list[Block]:
        """The rows [K, n] of some shared parameters, unscaled; and the tasks' own gradients, where asked for."""
        blocks: dict[int, Block] = {}
        seeds = self._seeds(None)
        at_once = [p for p in parameters if self._at_once(p)]
        done = {id(parameter) for parameter in at_once}
        one_by_one = [parameter for parameter in parameters if id(parameter) not in done]
        for task, loss in enumerate(self._losses):
            mine = self._own[task] if own else []
            stays = retain or bool(at_once) or task < self.num_tasks - 1
            found = gradients([loss], [*one_by_one, *mine], [seeds[task]], retain=stays)
            for parameter, grad in zip(one_by_one, found, strict=False):
                row = None if grad is None else dense(grad, parameter)
                blocks[id(parameter)] = self._with_row(blocks.get(id(parameter)), task, row)
            self.own_gradients[task] += [
                (p, grad) for p, grad in zip(mine, found[len(one_by_one) :], strict=True) if grad is not None
            ]
        if at_once and self._row_pass is not None:
            self._row_pass.run(at_once, lambda p, block: blocks.update({id(p): block}), retain)
        found_blocks = (blocks.get(id(parameter)) for parameter in parameters)
        return [None if block is None else self._complete(block) for block in found_blocks]

    @cached_property
    def _row_pass(self) -> RowPass | None:
        """Made where rows are first asked for: a loss weighting needs none."""
        if self._make_row_pass is None:
            return None
        row_pass = self._make_row_pass(self._seeds(None), self.dtype)
        row_pass.check(self._shared)
        return row_pass

    def _at_once(self, parameter: Tensor) -> bool:
        return self._row_pass is not None and self._row_pass.covers(parameter)

    def _complete(self, block: Tensor) -> Tensor:
        """Unscales a parameter's rows in place."""
        if self._joined:
            self._moved.append(block.any(dim=1).to(self.roles.shared[0].device))
        return block if self._scale is None else block.div_(self._scale.to(block.device, self.dtype))

    def _with_row(self, block: Block, task: int, grad: Tensor | None) -> Block:
        """The block with a task's row; tasks come in order, and one that does not reach the parameter has zeros."""
        if block is None and grad is not None:
            block = torch.empty(self.num_tasks, grad.numel(), dtype=self.dtype, device=grad.device)
            block[:task] = 0.0
        if block is not None:
            block[task] = 0.0 if grad is None else grad.reshape(-1)
        return block

    def _row(self, found: Sequence[Tensor | None]) -> Blocks:
        """Gradients by the shared parameters as one row, unscaled, in the Jacobian's dtype."""
        row: list[Block] = []
        for parameter, grad in zip(self.roles.shared, found, strict=True):
            block = None if grad is None else dense(grad, parameter).reshape(1, -1).to(self.dtype)
            row.append(block if block is None or self._scale is None else block / self._scale.to(block.device))
        return Blocks(row, self.shared_sizes)

    def _seeds(self, weights_K: Tensor | None) -> list[Tensor]:
        """The gradient of the (weighted, scaled) sum by each loss."""
        seeds = []
        for task, loss in enumerate(self._losses):
            seed = torch.ones_like(loss, memory_format=torch.preserve_format).detach()
            for factor in (self._scale, None if weights_K is None else weights_K[task]):
                seed = seed if factor is None else seed * factor.to(loss.device, loss.dtype)
            seeds.append(seed)
        return seeds

    def _check_apart(self) -> None:
        """Where the graph joins all losses, a parameter that one task alone moves is not the tasks' common one.

        Waits for the device; the first batch alone can be so.

        Raises:
            MethodError: there is such a parameter.
        """
        if not self._moved or self.num_tasks == 1:
            return
        moved_QK = torch.stack(self._moved).cpu()
        for counts_K in moved_QK[moved_QK.sum(dim=1) == 1] if moved_QK.any(dim=0).sum() > 1 else ():
            raise MethodError(
                f"only the loss of task {int(counts_K.int().argmax())} depends on a parameter that every loss reaches: "
                "the losses were computed in one tensor, so their graphs do not tell the tasks apart; give a list of "
                "losses that were computed one by one, or shared_parameters and task_parameters"
            )
