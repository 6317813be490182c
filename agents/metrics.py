"""Sums of the update's metrics, kept on the device and read once a logging interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mtrl_surgery.jacobian.conflict import MapSums
from mtrl_surgery.jacobian.update import SurgeryOptimizer


class MetricSums:
    """Running sums of two kinds, counted apart: of counted updates, and of looks at the gradients; and their maps."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self._tasks = tasks
        self._sums: dict[str, dict[str, Tensor]] = {"update": {}, "look": {}}
        self._counts = {"update": 0, "look": 0}
        self._maps = MapSums(tasks)

    def add(self, per_task: Mapping[str, Tensor], networks: Mapping[str, SurgeryOptimizer]) -> None:
        """Add one update's values; scalars are the run's, [K] are the tasks'."""
        values = dict(per_task)
        for name, network in networks.items():
            values[f"{name}/direction_norm"] = network.direction_norm
            for key, value in network.method.diagnostics().items():
                values[f"{name}/{key.removesuffix('_K')}"] = value
        self._accumulate("update", values)

    def add_look(self, networks: Mapping[str, SurgeryOptimizer]) -> None:
        """Add what one look at the networks' task gradients found."""
        found = {
            f"{name}/{key}": value for name, network in networks.items() for key, value in network.conflicts.items()
        }
        self._accumulate("look", {key.removesuffix("_K"): value for key, value in found.items() if value.dim() < 2})
        self._maps.add({name: network.conflicts for name, network in networks.items()})

    def _accumulate(self, kind: str, values: Mapping[str, Tensor]) -> None:
        sums = self._sums[kind]
        for key, value in values.items():
            # A checkpoint's tensors lie on the CPU.
            sums[key] = sums[key].to(value.device) + value if key in sums else value.detach().clone()
        self._counts[kind] += 1

    def rows(self, updates: int) -> list[dict[str, Any]]:
        """Means since the last call, one row for the run and one a task; starts the sums anew."""
        if not any(self._counts.values()):
            return []
        means = {
            key: (value / self._counts[kind]).double().cpu()
            for kind in self._sums
            for key, value in self._sums[kind].items()
        }
        run: dict[str, Any] = {"update": updates, "task": None}
        run.update({key: value.item() for key, value in means.items() if value.dim() == 0})
        run.update({f"{key}_mean": value.mean().item() for key, value in means.items() if value.dim() == 1})
        rows = [run]
        for index, task in enumerate(self._tasks):
            row: dict[str, Any] = {"update": updates, "task": task}
            row.update({key: value[index].item() for key, value in means.items() if value.dim() == 1})
            rows.append(row)
        for kind in self._sums:
            self._sums[kind], self._counts[kind] = {}, 0
        return rows

    def maps(self, updates: int) -> list[dict[str, Any]]:
        """Rows for conflicts.jsonl; see `MapSums.rows`."""
        return self._maps.rows(updates)

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        sums = {kind: {key: value.clone() for key, value in sums.items()} for kind, sums in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "maps": self._maps.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`'s value."""
        self._sums = {kind: dict(state["sums"][kind]) for kind in self._sums}
        self._counts = {kind: state["counts"][kind] for kind in self._counts}
        self._maps.load_state_dict(state.get("maps", {}))
