"""Meta-World's simulators to the bit, without what their Python does in vain at every step.

Physics is three tenths of a step of MT10 (`bench rollout`). Much of the rest went into going through all
contacts in Python, into proving to SciPy that a rotation matrix of MuJoCo's is one, into looking up bodies and sites by
name, and into observations built of a dozen small arrays. A class in between replaces these. Rewards, goals, resets and
the order of a step stay Meta-World's own code; tests hold every task of MT50 to its original, bit by bit.
"""

from __future__ import annotations

import math
from functools import cache, partial
from types import FunctionType, SimpleNamespace
from typing import Any, Final

import mujoco
import numpy as np
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from scipy.spatial.transform import Rotation

_FRAME: Final = 18
"""Numbers of a frame: the hand's position, how far it is open, and position and quaternion of at most two objects."""
_OBJECT: Final = 7
"""Of which an object has that many."""
_PADS: Final = ("leftpad_geom", "rightpad_geom")
_UPRIGHT: Final = np.array([1.0, 0.0, 1.0, 0.0])
"""The hand's orientation, which no action changes."""


class _Lean(SawyerXYZEnv):  # type: ignore[misc]  # metaworld ships no types
    """Overrides what every task inherits, and none overrides itself."""

    def __init__(self, **options: Any) -> None:
        # Views of MuJoCo's own memory, which stays where it is: they always show the newest positions.
        self._prev_obs: np.ndarray
        self._bodies: dict[str, np.ndarray] = {}
        self._sites: dict[str, np.ndarray] = {}
        super().__init__(**options)

    def get_body_com(self, body_name: str) -> np.ndarray:
        """A body's position: a view."""
        found = self._bodies.get(body_name)
        if found is None:
            found = self._bodies[body_name] = self.data.body(body_name).xpos
        return found

    def get_endeff_pos(self) -> np.ndarray:
        """The hand's position: a view."""
        return self.get_body_com("hand")

    @property
    def tcp_center(self) -> np.ndarray:
        """The point between the fingers."""
        center: np.ndarray = (self._site("rightEndEffector") + self._site("leftEndEffector")) / 2.0
        return center

    def _site(self, name: str) -> np.ndarray:
        found = self._sites.get(name)
        if found is None:
            found = self._sites[name] = self.data.site(name).xpos
        return found

    def _get_site_pos(self, site_name: str) -> np.ndarray:
        return self._site(site_name).copy()

    def _set_pos_site(self, name: str, pos: np.ndarray) -> None:
        self._site(name)[:] = pos[:3]

    def set_xyz_action(self, action: np.ndarray) -> None:
        """Moves what the hand follows, within its box."""
        moved = self.data.mocap_pos[0] + np.minimum(np.maximum(action, -1), 1) * self.action_scale
        self.data.mocap_pos[0] = np.minimum(np.maximum(moved, self.mocap_low), self.mocap_high)
        self.data.mocap_quat = _UPRIGHT

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        """Physics alone: Gymnasium also has forces on bodies worked out after it, which nothing here reads."""
        self.data.ctrl[:] = ctrl
        mujoco.mj_step(self.model, self.data, nstep=n_frames)

    def _get_obs(self) -> np.ndarray:
        goal = self._get_pos_goal()
        frame = self._get_curr_obs_combined_no_goal()
        obs = np.concatenate((frame, self._prev_obs, np.zeros_like(goal) if self._partially_observable else goal))
        self._prev_obs = frame
        return obs

    def _get_curr_obs_combined_no_goal(self) -> np.ndarray:
        frame = np.zeros(_FRAME)
        frame[:3] = self.get_endeff_pos()
        apart = self.get_body_com("rightclaw") - self.get_body_com("leftclaw")
        frame[3] = min(max(math.sqrt(apart.dot(apart)) / 0.1, 0.0), 1.0)
        position, quaternion = self._get_pos_objects(), self._get_quat_objects()
        objects = frame[4 : 4 + len(position) + len(quaternion)].reshape(-1, _OBJECT)
        objects[:, :3] = position.reshape(-1, 3)
        objects[:, 3:] = quaternion.reshape(-1, 4)
        return frame

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both finger pads press on the geom."""
        contact, force = self.data.contact, self.data.efc_force
        touches = (contact.geom == object_geom_id).any(axis=1)
        if not touches.any():
            return False
        for pad in _PADS:
            at = np.flatnonzero(touches & (contact.geom == self.data.geom(pad).id).any(axis=1))
            if not sum(force[address] for address in contact.efc_address[at]) > 0:
                return False
        return True


@cache
def lean(original: type[SawyerXYZEnv]) -> type[SawyerXYZEnv]:
    """A subclass of a task's class that gives the same bits in less time."""
    own: dict[str, Any] = {}
    quaternions = original._get_quat_objects
    if "Rotation" in quaternions.__code__.co_names:
        # The task's own function, with another meaning of one name: Meta-World's module stays as it is.
        names = {**quaternions.__globals__, "Rotation": SimpleNamespace(from_matrix=_from_matrix())}
        own["_get_quat_objects"] = FunctionType(quaternions.__code__, names, quaternions.__name__)
    return type(original.__name__, (_Lean, original), own)


@cache
def _from_matrix() -> Any:
    """SciPy's constructor, told that the matrix is a rotation; as it is where SciPy (before 1.17) can't be told.

    SciPy would repair a matrix that is none; MuJoCo's are made from unit quaternions.
    """
    trusting = partial(Rotation.from_matrix, assume_valid=True)
    try:
        trusting(np.eye(3))
    except TypeError:
        return Rotation.from_matrix
    return trusting
