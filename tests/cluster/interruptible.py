"""A driver process to be stopped: `python -m tests.cluster.interruptible <out> <kind>`, exit code as a command has."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from cluster.config import ClusterConfig
from mtrl_surgery.runs.signals import Interrupted
from tests.cluster.parts import classic_suite
from tests.cluster.runs import SCHEDULE, Setup, train

SETUP = Setup(classic_suite(), schedule=replace(SCHEDULE, total_steps=300))

if __name__ == "__main__":
    try:
        cluster = ClusterConfig(kind=sys.argv[2], workers=2)
        train(replace(SETUP, cluster=cluster), Path(sys.argv[1]), "run")
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        sys.exit(stop.exit_code)
