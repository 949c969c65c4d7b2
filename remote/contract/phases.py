"""The stations of a run, and how it may end: one enumeration everywhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """The stations of a run, in order. Ledger, events, estimates and report use these names and no others."""

    PREPARE = "prepare"  # keys, job file, checks before anything is rented
    QUEUE = "queue"  # waiting for an offer that has room
    CREATE = "create"  # the provisioner's up
    BOOT = "boot"  # from "running" to the first command over SSH
    ENVIRONMENT = "environment"  # package shipped, pins installed
    DOWNLOAD = "download"  # base model and data on the box's disk
    LOAD = "load"  # weights into memory, adapter attached
    PROBE = "probe"  # the longest batch, stepped twice, thrown away
    TRAIN = "train"
    EVALUATE = "evaluate"
    SAVE = "save"
    FETCH = "fetch"  # adapter and logs home, checksums compared
    TEARDOWN = "teardown"
    CONFIRM = "confirm"  # the provider lists nothing of ours any more


class EndReason(StrEnum):
    """Why the trainer stopped."""

    COMPLETED = "completed"
    STOPPED_EARLY = "stopped_early"  # held-out rows were answered no better
    DEADLINE = "deadline"  # saved and left before the box's deadline
    INTERRUPTED = "interrupted"  # asked to stop by signal; a checkpoint was saved
    BAD_JOB = "bad_job"  # the job file or the data can't be used
    PREFLIGHT = "preflight"  # the machine is not what the plan assumed
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    DIVERGED = "diverged"  # loss or weights not finite
    STALLED = "stalled"  # a step or an evaluation that went on and on, and was cut
    VERIFY_FAILED = "verify_failed"  # the saved adapter did not reload to the same logits
    CRASHED = "crashed"  # anything else; the message says what


EXIT_CODES: Final[dict[EndReason, int]] = {  # of a trainer that ends without a result; with one it is 0
    EndReason.COMPLETED: 0,
    EndReason.STOPPED_EARLY: 0,
    EndReason.DEADLINE: 3,
    EndReason.INTERRUPTED: 4,
    EndReason.BAD_JOB: 5,
    EndReason.PREFLIGHT: 6,
    EndReason.OUT_OF_MEMORY: 7,
    EndReason.DISK_FULL: 8,
    EndReason.DIVERGED: 9,
    EndReason.VERIFY_FAILED: 10,
    EndReason.CRASHED: 11,
    EndReason.STALLED: 12,
}
