"""The marks by which processes of a box are known, ledger or not: lines of their environment, which children inherit. And the
one that a lease leaves.
"""

from __future__ import annotations

from pathlib import Path

RUN_MARK = "RENTUNE_BOX"  # the run id
ROOT_MARK = "RENTUNE_BOXES"  # the folder of boxes it belongs to, so that two homes never mix
TASK_MARK = "RENTUNE_TASK"  # the folder of the script it belongs to
LEASE_ENDED_FILE = "lease-ended"  # in the box's folder: its lease has ended

# POSIX shell: pids whose environment has the line NAME=VALUE; whether a pid's has. What has ended has no environment.
MARKED = """\
carries() { grep -sqxzF "$1" "/proc/$2/environ"; }
marked() { for each in $(grep -slxzF "$1" /proc/[0-9]*/environ); do each=${each#/proc/}; echo "${each%/environ}"; done; }
"""


def marks(root: Path, run_id: str) -> dict[str, str]:
    """The environment that marks a process and whatever it starts."""
    return {RUN_MARK: run_id, ROOT_MARK: str(root)}
