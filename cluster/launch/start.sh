#!/usr/bin/env bash
# Trains on the head node of a running Ray cluster, or goes on with the run that OUT holds already, so that a job which
# is started again after a failure or a preemption loses only what came after its last checkpoint.
#
#   bash cluster/launch/start.sh OUT [KEY=VALUE ...]
#
# OUT is the folder of this one run, on a disk that outlives the job. OUT/driver.pid is the process to send SIGTERM to for
# a checkpoint and a clean stop.
set -euo pipefail

if (($# == 0)) || [[ $1 == *=* ]]; then
    echo "usage: $0 OUT [KEY=VALUE ...]; the first word must be a folder" >&2
    exit 2
fi
out=$1
shift
words=("out=$out" "$@")
for checkpoint in "$out"/*/checkpoints/step-*/; do
    if [[ -d $checkpoint ]]; then
        words+=("resume=${checkpoint%/checkpoints/*}")
        break
    fi
done
mkdir -p "$out"
echo $$ >"$out/driver.pid" # exec keeps it
exec python -m mtrl_surgery train cluster=ray cluster.address=auto "${words[@]}"
