"""Seconds until base and rows lie in memory on the machine that trains, in the form that it loads."""

from __future__ import annotations

import msgspec

from catalogs.bases.architectures import Architecture
from planner.asking.request import DataAsked
from planner.asking.sent import Sent
from planner.estimators.time import phases
from planner.estimators.time.phases import beyond, longer, moving, total
from planner.methods import base_params
from planner.plan import Range
from remote.contract import Task


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds of two phases."""

    download: Range
    load: Range


def arrival(base_bytes: int, sent: Sent, *, made: Range, tokenized: Range, load: Range, on_box: bool) -> Arrival:
    """Of a base of so many bytes; `made`: until it is plain weights, `tokenized`: until rows are tokens, `load`: into memory.

    Files of this machine are there before the trainer begins. It tokenizes the rows while it fetches the base, makes it plain
    and loads it (`remote.loading`), so that only what takes longer than all of that is waited for.
    """
    if on_box:
        return Arrival(download=made, load=longer(load, beyond(tokenized, made)))
    came = moving((sent.base_bytes or 0) + sent.rest_bytes, phases.SEND_BYTES_PER_S)
    fetched = moving(base_bytes, phases.HUB_BYTES_PER_S) if sent.base_bytes is None else phases.ZERO
    there = total(fetched, made)
    return Arrival(download=total(came, there), load=longer(load, beyond(tokenized, there)))


def made_plain(architecture: Architecture, task: Task, sent: Sent) -> Range:
    """Until a GGUF file is a folder of plain weights; nothing of what is one already."""
    if not sent.packed:
        return phases.ZERO
    return total(phases.UNPACK_S, moving(base_params(architecture, task), phases.UNPACKED_PARAMS_PER_S))


def tokenized(data: DataAsked) -> Range:
    """Until rows are tokens."""
    return moving((data.num_examples + data.held_out_rows) * data.mean_tokens, phases.TOKENIZED_PER_S)
