"""`record`: films of real episodes; what is drawn is read back from the files, pixel by pixel."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from agents.config import AgentConfig
from agents.policy import actor_sizes
from envs.build import build_suite
from envs.config import EnvConfig
from envs.rendering import CAMERAS
from mtrl_surgery.assembly import build_problem, made_with
from mtrl_surgery.commands.program import compose
from mtrl_surgery.runs.checkpoint import CheckpointStore
from mtrl_surgery.runs.folder import RunFolder
from mtrl_surgery.settings import to_settings
from mtrl_surgery.videos import backends
from mtrl_surgery.videos.backends import RenderingError, find_backend, try_backend, with_backend
from mtrl_surgery.videos.filming import free_folder
from mtrl_surgery.videos.frames import columns, fit, grid, label, tile_size
from tests.commands.conftest import Run

AGENT = AgentConfig(hidden_sizes=[8], one_hot=True)
SKY = (127, 126, 122)
"""Where a Meta-World scene has nothing, its pictures have this colour."""
TASKS = """
import gymnasium, numpy as np

class Coloured(gymnasium.Env):
    "Red, green or blue all over, brighter at every step; it succeeds at step 6 of 12, if it is green."
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}
    def __init__(self, name, render_mode): self.name, self.render_mode, self.steps = name, render_mode, 0
    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.steps += 1
        won = self.name == "green" and self.steps >= 6
        return np.zeros(2, np.float32), 1.0, self.name == "blue" and self.steps == 4, False, {"success": won}
    def render(self):
        if self.name == "odd": return np.zeros((4, 4), np.uint8)
        picture = np.zeros((90, 120, 3), np.uint8)
        picture[:, :, ["red", "green", "blue"].index(self.name)] = 100 + 10 * self.steps
        return picture

def make(name, render_mode=None): return Coloured(name, render_mode)
def never(name): return Coloured(name, None)
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with environments; the processes that film find it too."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "coloured_tasks.py").write_text(TASKS)
    monkeypatch.syspath_prepend(str(folder))
    return "coloured_tasks"


def run_of(out: Path, env: EnvConfig) -> Path:
    """A run folder with one checkpoint of random weights."""
    problem = build_problem(build_suite(env))
    size = sum((a + 1) * b for a, b in zip(actor_sizes(problem, AGENT), actor_sizes(problem, AGENT)[1:], strict=False))
    weights_P = np.random.default_rng(0).normal(size=size).astype(np.float32)
    settings = dataclasses.replace(to_settings(compose(["method=ls"])), env=env, agent=AGENT)
    with RunFolder.create(out, "run", settings.to_mapping()) as run:
        about = made_with(settings, build_suite(env))
        CheckpointStore(run.checkpoints, keep=1, about=about).save(30, {"policy_weights": weights_P})
    return run.path


def frames_of(path: Path) -> np.ndarray:
    """A video's frames_THW3."""
    frames = imageio_ffmpeg.read_frames(str(path))
    width, height = next(frames)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


def test_every_task_gets_its_video_and_all_a_mosaic(
    run: Run, tmp_path: Path, tasks: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mtrl_surgery.commands.record.find_backend", lambda: "egl")  # these tasks draw without MuJoCo
    env = EnvConfig("factory", "own", ["red", "green", "blue"], horizon=12, factory=f"{tasks}:make")
    path = run_of(tmp_path, env)
    words = ("protocol=suite", "size=[160,120]", "every=3", "fps=5", "workers=1")
    before = dict(os.environ)
    said = run("record", f"checkpoint={path}", *words)
    assert said.code == 0, said.err
    assert os.environ == before
    assert "frames/s" in said.err and "ETA" in said.err
    folder = path / "videos" / "step-000000030"
    names = ["00-red", "01-green", "02-blue", "mosaic"]
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [*(f"{name}.{suffix}" for name in names for suffix in ("gif", "mp4")), "recording.json"]
    )
    assert not list((path / "videos").glob(".*"))

    # Steps 0, 3, 6, 9 and 12; blue ends at step 4, whose frame is no third one but is shown.
    for index, steps in enumerate([[0, 3, 6, 9, 12], [0, 3, 6, 9, 12], [0, 3, 4]]):
        frames_THW3 = frames_of(folder / f"{names[index]}.mp4")
        assert frames_THW3.shape == (len(steps), 120, 160, 3)
        assert frames_THW3[:, 70, 80, index] == pytest.approx([100 + 10 * step for step in steps], abs=6)
    # The tick stands in the right corner of the bar from the success on.
    corner_T3 = frames_of(folder / "01-green.mp4")[:, 2, 150]
    assert [bool(pixel[1] > 120) for pixel in corner_T3] == [False, False, True, True, True]

    mosaic_THW3 = frames_of(folder / "mosaic.mp4")
    assert mosaic_THW3.shape == (5, 240, 320, 3)
    last_HW3 = mosaic_THW3[-1].astype(int)
    assert last_HW3[70, 80, 0] == pytest.approx(220, abs=8) and last_HW3[70, 240, 1] == pytest.approx(220, abs=8)
    assert last_HW3[190, 80, 2] == pytest.approx(140, abs=8), "blue ended early and keeps its last frame"
    assert last_HW3[190, 240].max() < 50, "the fourth place is empty"

    with Image.open(folder / "mosaic.gif") as gif:
        assert gif.n_frames > 1 and gif.size == (320, 240)
    about = json.loads((folder / "recording.json").read_text())
    assert [row["name"] for row in about["tasks"]] == env.tasks
    assert [row["successes_any"] for row in about["tasks"]] == [0, 1, 0]


@pytest.mark.slow
def test_a_second_recording_leaves_the_first_alone(run: Run, tmp_path: Path, tasks: str):
    env = EnvConfig("factory", "own", ["red", "green"], horizon=4, factory=f"{tasks}:make")
    words = (f"checkpoint={run_of(tmp_path, env)}", "protocol=suite", "size=[64,64]", "tasks=[green]", "format=gif")
    assert run("record", *words, "out=videos").code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("videos").rglob("*.gif")}
    assert run("record", *words, "out=videos").code == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert sorted(path.name for path in Path("videos").iterdir()) == ["step-000000030", "step-000000030-2"]
    for folder in Path("videos").iterdir():  # one format, and no mosaic of one task
        assert sorted(file.name for file in folder.iterdir()) == ["01-green.gif", "recording.json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "factory", "part"),
    [("odd", "make", "not a uint8 picture"), ("red", "never", "render_mode is None, not 'rgb_array'")],
)
def test_a_task_without_pictures_ends_the_recording(run: Run, tmp_path: Path, tasks: str, task, factory, part):
    path = run_of(tmp_path, EnvConfig("factory", "own", [task], horizon=4, factory=f"{tasks}:{factory}"))
    said = run("record", f"checkpoint={path}", "protocol=suite", "workers=1")
    assert said.code == 1 and part in said.err
    assert not list((path / "videos").iterdir())


REFUSED = {
    "camera=corner": "only Meta-World",
    "tasks=[gren]": "did you mean 'green'?",
    "size=[162,121]": "both even",
    "size=[160]": "[width,height]",
    "format=avi": "choices: mp4, gif",
    "every=0": "every=0 must be at least 1",
    "fps=0": "between 0.1 and 240",
    "protocol=best": "metaworld_plus",
}


def test_what_makes_no_sense_is_refused_before_work(
    run: Run, tmp_path: Path, tasks: str, monkeypatch: pytest.MonkeyPatch
):
    path = run_of(tmp_path, EnvConfig("factory", "own", ["red", "green"], horizon=4, factory=f"{tasks}:make"))
    monkeypatch.setattr("mtrl_surgery.commands.record.find_backend", lambda: "egl")
    for word, part in REFUSED.items():
        said = run("record", f"checkpoint={path}", word)
        assert said.code == 2 and part in said.err, (word, said.err)
    assert not (path / "videos").exists()


def test_the_message_where_nothing_draws_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(RenderingError) as caught:
        find_backend(("nonsense",))
    message = str(caught.value)
    assert "MUJOCO_GL=nonsense: " in message and "Error" in message
    assert "apt-get install -y libegl1 libgl1 libosmesa6" in message
    monkeypatch.setenv("MUJOCO_GL", "broken")
    with pytest.raises(RenderingError, match="unset MUJOCO_GL"):
        find_backend(("nonsense",))


def test_a_backend_that_kills_its_process_is_only_a_failure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "_TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert try_backend("egl") == "the process was ended by signal 11"
    monkeypatch.setattr(backends, "_TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(backends, "_TIMEOUT_S", 0.2)
    assert try_backend("egl") == "no picture within 0 s"


def test_drawing():
    picture_HW3 = np.full((100, 200, 3), 90, np.uint8)
    fitted_HW3 = fit(picture_HW3, (100, 100))
    assert fitted_HW3.shape == (100, 100, 3)
    assert (fitted_HW3[30:70] == 90).all() and fitted_HW3[:20].max() < 50, "in its own proportions"
    before, after = label(picture_HW3, "door-open-v3", False), label(picture_HW3, "door-open-v3", True)
    assert (picture_HW3 == 90).all(), "the frame itself is left alone"
    assert (before[20:] == 90).all() and not np.array_equal(before[:12, :90], after[:12, 100:190])
    assert before[2:12, 4:80].max() > 200, "the name is written"
    assert not np.array_equal(before, after)
    assert [columns(tasks) for tasks in (1, 2, 4, 5, 10, 50)] == [1, 2, 2, 3, 4, 8]
    assert tile_size(10, (480, 480)) == (480, 480) and tile_size(50, (480, 480)) == (240, 240)
    assert grid([picture_HW3] * 5).shape == (200, 600, 3)


def test_a_recording_never_takes_a_name_that_is_taken(tmp_path: Path):
    for expected in ("step-1", "step-1-2", "step-1-3"):
        folder = free_folder(tmp_path / "step-1")
        assert folder.name == expected
        folder.mkdir()


_DRAW = """
import sys
import numpy as np
from envs.config import EnvConfig
from envs.rendering import CAMERAS, open_camera
from envs.streams import seed_sequence
from envs.build import build_suite
environment = build_suite(EnvConfig(tasks=["door-open-v3"])).make(0)
environment.reset(seed_sequence(0, 0), 0)
pictures = {}
for name in CAMERAS:
    camera = open_camera(environment, "door-open-v3", name, (96, 64))
    pictures[name] = camera()
    camera.close()
np.savez(sys.argv[1], **pictures)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_metaworld_is_drawn_the_right_way_up(tmp_path: Path, backend: str):
    problem = try_backend(backend)
    if problem is not None:
        pytest.skip(f"{backend} does not work on this machine: {problem}")
    command = [sys.executable, "-c", _DRAW, str(tmp_path / "pictures.npz")]
    done = subprocess.run(command, env=with_backend(backend), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "pictures.npz", allow_pickle=False) as pictures:
        assert sorted(pictures) == sorted(CAMERAS)
        for name in ("corner", "corner2", "corner4", "behindGripper"):  # the others see no sky
            picture_HW3 = pictures[name].astype(int)
            assert picture_HW3.shape == (64, 96, 3)
            sky_HW = np.abs(picture_HW3 - SKY).max(-1) <= 6
            assert sky_HW[:12].mean() > 0.2 and sky_HW[-12:].mean() < 0.05, name
        # The right way up and not mirrored: seen from corner2 the red arm stands on the left.
        red_HW = (pictures["corner2"][..., 0] > 90) & (pictures["corner2"][..., 1] < 60)
        assert red_HW.sum() > 50 and np.nonzero(red_HW)[1].mean() < 44
