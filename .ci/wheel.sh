#!/usr/bin/env bash
# Build the wheel and run the quick tests against it: a fresh environment, and a folder that holds the tests but none of
# the packages, so that what a user installs is what is tested. QUICK is pytest's marker expression,
# WORKERS how many run at a time.
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
"${install[@]}" --no-deps --compile-bytecode "$work"/*.whl
# The other packages were compiled for .venv, from the same files: Python holds each against its source's size and time. Without,
# each trainer that a test starts compiles torch anew where PYTHONDONTWRITEBYTECODE is set (measured 2026-11-27: 31 s, not 11).
# Where it is not, the line below has compiled what Python imports at its start; a link can't be made over that.
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd .venv/lib/python*/site-packages
comm -12 <(find . -name __pycache__ -prune | sort) <(find "$site" -type d -printf './%P/__pycache__\n' | sort) |
    xargs -d '\n' cp --archive --link --remove-destination --parents --target-directory "$site"
cd "$root"
sha256sum remote/requirements.txt | cut -d ' ' -f 1 >"$work/venv/rentune-stack.sha256"

git ls-files --cached --others --exclude-standard -z |
    grep -zvE '^(catalogs|planner|provision|remote)/' |
    xargs -0 cp --parents --target-directory "$work/suite"

cd "$work/suite"
exec "$root/.ci/tests.sh" "$work/venv/bin/python" "$root/build/junit/quick.xml" -m "$QUICK"
