#!/usr/bin/env bash
# tests.sh PYTHON RESULTS ARGUMENT…: pytest, WORKERS tests at a time, and what failed a second time, by itself. Hundreds of the
# tests drive real processes against a real clock, and one in some thousands was once too late, or too early, on a machine that
# nobody had seen (docs/LOG.md names each that was found so, and its mend). So at most three have a second try, each is named
# above the last lines as unsteady, which is a fault to mend, and one that fails twice has failed.
set -uo pipefail
python=$1 results=$2
shift 2
rm -f "${results%.xml}-again.xml"
OMP_NUM_THREADS=1 "$python" -m pytest -n "$WORKERS" --dist loadgroup -q --junitxml="$results" "$@"
status=$?
[ "$status" -eq 1 ] || exit "$status" # 1: tests failed; all else is no verdict on a test

mapfile -t failed < <("$python" -m pytest --collect-only -q --last-failed --last-failed-no-failures none "$@" | grep '::')
if [ "${#failed[@]}" -eq 0 ] || [ "${#failed[@]}" -gt 3 ]; then
    exit 1
fi
printf 'Unsteady where it passes now, run once more by itself: %s\n' "${failed[@]}"
OMP_NUM_THREADS=1 exec "$python" -m pytest -n 0 -q --last-failed --junitxml="${results%.xml}-again.xml" "$@"
