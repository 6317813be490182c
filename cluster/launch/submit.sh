#!/usr/bin/env bash
# Submits this clone as a job to a running Ray cluster. OUT is a folder on the head node; see start.sh.
#
#   RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265 bash cluster/launch/submit.sh OUT [KEY=VALUE ...]
#
# What is uploaded is the clone without what runtime-env.yaml leaves out: Ray refuses packages above 100 MiB.
set -euo pipefail

export RAY_AUTH_MODE=token # the token: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token
export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec ray job submit --no-wait --working-dir . --runtime-env cluster/launch/runtime-env.yaml -- \
    bash cluster/launch/start.sh "$@"
