"""Seconds until base and rows lie on the machine that trains, in the form that it loads."""

from __future__ import annotations

from catalogs.bases.architectures import Architecture
from planner.asking.request import DataAsked
from planner.asking.sent import Sent
from planner.estimators.time import phases
from planner.estimators.time.phases import moving, total
from planner.methods import base_params
from planner.plan import Range
from remote.contract import Task


def brought(base_bytes: int, sent: Sent) -> Range:
    """Until base, rows and earlier adapter lie on a machine elsewhere: from the hub what is there, the rest from here."""
    fetched = moving(base_bytes, phases.HUB_BYTES_PER_S) if sent.base_bytes is None else phases.ZERO
    return total(fetched, moving((sent.base_bytes or 0) + sent.rest_bytes, phases.SEND_BYTES_PER_S))


def made_ready(architecture: Architecture, task: Task, data: DataAsked, sent: Sent) -> Range:
    """Until rows are tokens, and a GGUF file is a folder of plain weights, on the machine that trains."""
    num_tokens = (data.num_examples + data.held_out_rows) * data.mean_tokens
    tokenized = moving(num_tokens, phases.TOKENIZED_PER_S)
    if not sent.packed:
        return tokenized
    return total(tokenized, phases.UNPACK_S, moving(base_params(architecture, task), phases.UNPACKED_PARAMS_PER_S))
