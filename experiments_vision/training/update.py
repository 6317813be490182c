"""One update: a batch, its losses, the surgery, a step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from experiments_vision.contract import Modes, MultiTaskModel, Objective
from experiments_vision.errors import VisionError
from experiments_vision.models.blocks import frozen_statistics
from experiments_vision.settings import VisionSettings
from experiments_vision.training.batches import LabelledBatch
from mtrl_surgery.jacobian.conflict import MapSums
from mtrl_surgery.jacobian.curvature import multi_task_curvature
from mtrl_surgery.surgery import Surgery

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Update:
    """A network on its way down; nothing in a call waits for the device, but a scaler's one check (float16).

    Attributes:
        loss_sum_K: Of the losses since `take_losses`.
        looked: The diagnostics of the last update that was diagnosed, by name.
        maps: The conflicts of all of these, for conflicts.jsonl.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        objective: Objective,
        surgery: Surgery,
        optimizer: torch.optim.Optimizer,
        settings: VisionSettings,
    ) -> None:
        self.model, self.objective, self.surgery, self.optimizer = model, objective, surgery, optimizer
        self.device = next(model.parameters()).device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=settings.precision == "float16")
        self.loss_sum_K = torch.zeros(surgery.num_tasks, device=self.device)
        self.looked: dict[str, Tensor] = {}
        self.maps = MapSums(objective.tasks)
        # Gradients by features have other angles than those by parameters: a figure must not mix them.
        self._seen = "shared features" if settings.features else "shared parameters"
        self._features, self._accumulate = settings.features, settings.accumulate
        self._dtype = _DTYPES.get(settings.precision)
        self._diagnostics = settings.diagnostics
        self._losses_since = 0
        if settings.precision == "float16" and self.device.type != "cuda":
            raise VisionError(f"precision=float16 needs CUDA, device={self.device}; choices here: float32, bfloat16")

    def __call__(self, number: int, micro_batches: Sequence[LabelledBatch]) -> None:
        """Make update number `number`, of one batch in micro-batches."""
        diagnose = self._diagnostics.due(number)
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        for batch in micro_batches[:-1]:
            losses, _ = self._losses(batch)
            self.surgery.accumulate(losses, scaler=self.scaler)
            self._count(losses)
        losses, features = self._losses(micro_batches[-1])
        self.surgery.backward(losses, features=features, scaler=self.scaler, diagnose=diagnose)
        self._count(losses)
        before_P = self._flat() if diagnose and self._diagnostics.curvature else None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._losses_since += 1
        if self.surgery.method.needs_losses_after_step:
            self.surgery.observe(self._losses_again(micro_batches))
        if diagnose:
            seen = self.surgery.diagnostics()
            self.maps.add({self._seen: seen})
            self.looked = {name: value for name, value in seen.items() if value.dim() < 2}
        if before_P is not None:
            self.looked |= self._curvature(micro_batches[-1], before_P)

    def take_losses(self) -> Tensor:
        """The mean losses [K] of the updates since the last call."""
        mean_K = self.loss_sum_K / self._losses_since
        self.loss_sum_K.zero_()
        self._losses_since = 0
        return mean_K

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, where the settings ask for it."""
        return torch.autocast(self.device.type, self._dtype) if self._dtype is not None else nullcontext()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on, and the losses not yet written."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "surgery": self.surgery.state_dict(),
            "scaler": dict(self.scaler.state_dict()),
            "loss_sum_K": self.loss_sum_K,
            "losses_since": self._losses_since,
            "looked": self.looked,
            "maps": self.maps.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, to the bit."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.surgery.load_state_dict(state["surgery"])
        self.scaler.load_state_dict(state["scaler"])
        self.loss_sum_K = state["loss_sum_K"].to(self.device)
        self._losses_since = state["losses_since"]
        self.looked = {name: value.to(self.device) for name, value in state["looked"].items()}
        self.maps.load_state_dict(state.get("maps", {}))

    def _losses(self, batch: LabelledBatch) -> tuple[list[Tensor], tuple[Tensor, ...] | None]:
        """The task losses of a micro-batch, each already divided by how many micro-batches there are."""
        inputs, targets = batch
        with self.autocast():
            outputs = self.model(inputs)
            losses = self.objective.losses(outputs.tasks, targets)
        if self._accumulate > 1:
            losses = [loss / self._accumulate for loss in losses]
        return losses, outputs.features if self._features else None

    @torch.no_grad()
    def _losses_again(self, micro_batches: Sequence[LabelledBatch]) -> Tensor:
        """The losses of the whole batch after the step; batch normalisation's running statistics saw it already."""
        with frozen_statistics(self.model):
            return torch.stack([torch.stack(self._losses(batch)[0]) for batch in micro_batches]).sum(dim=0)

    def _curvature(self, batch: LabelledBatch, before_P: Tensor) -> dict[str, Tensor]:
        """The curvature of the batch's losses along the step from these parameters (the tragic triad's third part)."""
        inputs, targets = batch
        shapes = {name: value.shape for name, value in self.model.named_parameters() if value.requires_grad}

        def losses_K(theta_P: Tensor) -> Tensor:
            parts = theta_P.split([shape.numel() for shape in shapes.values()])
            named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
            outputs = torch.func.functional_call(self.model, named, (inputs,))
            return torch.stack(self.objective.losses(outputs.tasks, targets))

        with frozen_statistics(self.model):
            return multi_task_curvature(losses_K, before_P, self._flat() - before_P)

    def _flat(self) -> Tensor:
        return parameters_to_vector(trainable(self.model)).detach()

    @torch.no_grad()
    def _count(self, losses: Sequence[Tensor]) -> None:
        self.loss_sum_K += torch.stack([loss.detach().float() for loss in losses])


@torch.no_grad()
def evaluate(update: Update, batches: Iterable[LabelledBatch], stop: Callable[[], bool]) -> Modes | None:
    """All metrics of a split by mode and name; None where `stop` says so half-way."""
    meter = update.objective.meter()
    update.model.eval()
    for inputs, targets in batches:
        with update.autocast():
            outputs = update.model(inputs)
        meter.update([output.float() for output in outputs.tasks], targets)
        if stop():
            return None
    return meter.compute()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
