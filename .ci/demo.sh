#!/usr/bin/env bash
# `make demo`: from an empty checkout to a tuned adapter and a cost report, on the local box. Usage: .ci/demo.sh JOB.yaml
# Exit status: that of `rentune run`, 0 only if trained and destroyed.
set -euo pipefail
cd "$(dirname "$0")/.."
job=$1

show() { printf '\n$ %s\n' "$*"; "$@"; }

make setup-light
export PATH="$PWD/.venv/bin:$PATH"
show rentune plan --model 32b --gpu-budget 16GB

make system-demo setup-box base
python examples/demo/make_data.py
show rentune run "$job" --yes
