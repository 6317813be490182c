"""The Slurm script, with Slurm's own commands stood in for: directives, what it runs, what a preemption does."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.cluster.launch.launching import LAUNCH, bash, check_composes, finished, recorded, stand_in

SCRIPT = LAUNCH / "slurm.sbatch"
NUMBER = r"[1-9]\d*"
DIRECTIVES = {
    "job-name": r"[\w-]+",
    "nodes": NUMBER,
    "ntasks-per-node": NUMBER,
    "cpus-per-task": NUMBER,
    "gpus-per-node": NUMBER,
    "mem": r"\d+[KMGT]?",
    "exclusive": None,
    "time": r"(\d+-)?\d\d:\d\d:\d\d",
    "requeue": None,
    "no-kill": None,
    "signal": r"B:(USR1|USR2|TERM)@\d+",
    "open-mode": r"append|truncate",
    "output": r".+%j.*",
}
"""The options of sbatch that we use, and how their values look; None: they take none."""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """Three nodes of Slurm, as far as a script sees them."""
    stand_in(tmp_path, "scontrol", 'if [[ $1 == show ]]; then printf "gpu07\\ngpu08\\ngpu09\\n"; fi')
    stand_in(tmp_path, "srun", f"printenv RAY_AUTH_MODE RAY_AUTH_TOKEN >'{tmp_path}/srun.env'; exit 3")
    return tmp_path


def job(cluster: Path, *words: str | Path):
    variables = {
        "SLURM_SUBMIT_DIR": str(cluster),
        "SLURM_JOB_ID": "42",
        "SLURM_JOB_NODELIST": "gpu[07-09]",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_CPUS_PER_TASK": "16",
    }
    return bash(SCRIPT, *words, path=cluster, cwd=cluster, **variables)


def test_every_directive_is_one_of_sbatch_and_stands_where_sbatch_reads_it():
    lines = SCRIPT.read_text().splitlines()
    assert lines[0].startswith("#!")
    first_command = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    found = [line.removeprefix("#SBATCH ") for line in lines[:first_command] if line.startswith("#SBATCH")]
    assert len(found) == SCRIPT.read_text().count("#SBATCH"), "sbatch stops reading at the first command"
    for directive in found:
        name, equals, value = directive.removeprefix("--").partition("=")
        assert name in DIRECTIVES, directive
        pattern = DIRECTIVES[name]
        assert (pattern is None and not equals) or re.fullmatch(pattern or "", value), directive
    assert {"--ntasks-per-node=1", "--exclusive"} <= set(found), "one Ray a node; symmetric-run stops all that it finds"


def test_it_starts_ray_on_every_node_and_trains_on_the_first(cluster: Path):
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import symmetric_run

    code, _, err = finished(job(cluster, "runs/a", "env=mt50", "method=samgs"))
    assert (code, err) == (3, ""), "the step's exit code is the job's"
    words = recorded(cluster, "srun")
    ray = words.index("ray")
    assert words[:ray] == ["--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--no-kill", "--kill-on-bad-exit=0"]
    assert words[ray + 1] == "symmetric-run"
    separator = words.index("--")
    context = symmetric_run.make_context("symmetric-run", words[ray + 2 : separator])
    assert (context.params["address"], context.params["min_nodes"]) == ("gpu07:6379", 3)
    options = start.make_context("start", list(context.params["ray_args_and_entrypoint"])).params
    assert options["num_cpus"] == 15, "one core a node is Ray's and the learner's"
    shell, script, out, *overrides = words[separator + 1 :]
    assert (shell, out) == ("bash", str(cluster / "runs/a"))
    assert (LAUNCH.parents[1] / script).is_file()
    assert overrides == ["env=mt50", "method=samgs"]
    check_composes(["cluster=ray", "cluster.address=auto", f"out={out}", *overrides])


def test_each_job_has_a_token_of_its_own(cluster: Path):
    tokens = set()
    for _ in range(2):
        finished(job(cluster, "runs/a"))
        mode, token = (cluster / "srun.env").read_text().split()
        assert mode == "token" and re.fullmatch("[0-9a-f]{64}", token)
        tokens.add(token)
    assert len(tokens) == 2


def test_it_wants_to_know_where(cluster: Path):
    code, _, err = finished(job(cluster))
    assert code != 0 and "usage: sbatch" in err and not (cluster / "srun.words").exists()


@pytest.mark.parametrize(("ending", "requeued"), [(143, True), (1, False)])
def test_a_signal_before_the_end_asks_for_a_checkpoint_and_queues_the_job_again(
    cluster: Path, ending: int, requeued: bool
):
    driver = f"""
out='{cluster}/runs/a'; mkdir -p "$out"
trap 'echo checkpoint >"$out/checkpoint"; exit {ending}' TERM
echo $$ >"$out/driver.pid"
while true; do sleep 0.1; done"""
    stand_in(cluster, "srun", driver)
    (cluster / "runs/a").mkdir(parents=True)
    (cluster / "runs/a/driver.pid").write_text("1")  # of the time before: not to be signalled
    process = job(cluster, "runs/a")
    deadline = time.monotonic() + 20
    pid = cluster / "runs/a/driver.pid"
    while not (pid.exists() and pid.read_text().strip() not in ("", "1")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(10)  # USR1
    code, _, err = finished(process)
    assert (code, err) == (ending, "")
    assert (cluster / "runs/a/checkpoint").exists()
    calls = recorded(cluster, "scontrol")
    assert (calls[-2:] == ["requeue", "42"]) is requeued
