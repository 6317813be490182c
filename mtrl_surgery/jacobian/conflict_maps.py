"""Maps of conflict from one row of conflicts.jsonl to the next: sums on the device, read once a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrl_surgery.jacobian.conflict import map_due, map_row


class MapSums:
    """Means over looks of the maps of some networks' gradients.

    A pair that is not finite at a look (of a step that a gradient scaler skips, of a task without a loss) is left out
    of that look.

    Args:
        tasks: Their names; of one alone there are no pairs, and no rows.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self._tasks = tuple(tasks)
        self._sums: dict[str, dict[str, Tensor]] = {}  # by network and map, [K, K]; `there`: how many
        self._looks = self._intervals = 0  # since the last rows; that had a look

    @torch.no_grad()
    def add(self, seen: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Adds one look, without waiting for the device.

        Args:
            seen: Measures by network and name; those that end in `_KK` are maps, the others are passed over.
        """
        for network, measures in seen.items():
            maps = {name: value_KK for name, value_KK in measures.items() if name.endswith("_KK")}
            if not maps:
                continue
            there_KK = torch.stack(list(maps.values())).isfinite().all(0)
            found = {name: torch.where(there_KK, value_KK, 0.0) for name, value_KK in maps.items()}
            sums = self._sums.setdefault(network, {})
            for name, value_KK in (found | {"there": there_KK.double()}).items():
                # What a checkpoint gave back lies on the CPU.
                sums[name] = sums[name].to(value_KK.device) + value_KK if name in sums else value_KK
        self._looks += 1

    def rows(self, update: int) -> list[dict[str, Any]]:
        """Rows for conflicts.jsonl, one a network: means since the last rows. To be called once an interval.

        A long run's intervals have rows more and more rarely (`map_due`); their looks go into the next rows.
        """
        if not self._sums or len(self._tasks) < 2:
            return []
        self._intervals += 1
        if not map_due(self._intervals):
            return []
        head = {"update": update, "tasks": list(self._tasks), "looks": self._looks}
        rows = []
        for network, sums in self._sums.items():
            means = {name: (sum_KK / sums["there"]).cpu() for name, sum_KK in sums.items()}
            rows.append({"network": network, **head, **map_row(means)})
        self._sums, self._looks = {}, 0
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts so far."""
        sums = {network: {name: value.clone() for name, value in maps.items()} for network, maps in self._sums.items()}
        return {"sums": sums, "looks": self._looks, "intervals": self._intervals}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict`'s value; an empty one, of a checkpoint from before there were maps, starts anew."""
        self._sums = {network: dict(maps) for network, maps in state.get("sums", {}).items()}
        self._looks, self._intervals = state.get("looks", 0), state.get("intervals", 0)
