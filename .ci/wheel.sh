#!/usr/bin/env bash
# Build the wheel and run the quick tests against it: a fresh environment, and a folder that holds the tests but none of
# the packages, so that what a user installs is what is tested. QUICK is pytest's marker expression.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/build/wheel

rm -rf "$work"
mkdir -p "$work/suite"
.uv/bin/uv build --quiet --wheel --build-constraint .ci/locks/build.txt --out-dir "$work"

echo "Testing the built wheel $(basename "$work"/*.whl) in an environment of its own"
.uv/bin/uv venv --quiet --python "$PYTHON" "$work/venv"
install=(.uv/bin/uv pip install --quiet --python "$work/venv/bin/python")
hashed=(--require-hashes --no-deps --only-binary :all:)
"${install[@]}" "${hashed[@]}" -r .ci/locks/dev.txt
.ci/without-triton.sh <remote/requirements.txt >"$work/stack.txt"
"${install[@]}" "${hashed[@]}" -r "$work/stack.txt"
"${install[@]}" --no-deps "$work"/*.whl
sha256sum remote/requirements.txt | cut -d ' ' -f 1 >"$work/venv/rentune-stack.sha256"

git ls-files --cached --others --exclude-standard -z |
    grep -zvE '^(catalogs|planner|provision|remote)/' |
    xargs -0 cp --parents --target-directory "$work/suite"

cd "$work/suite"
OMP_NUM_THREADS=1 "$work/venv/bin/python" -m pytest -n 2 --dist loadgroup -q -m "$QUICK" --junitxml="$root/build/junit/quick.xml"
