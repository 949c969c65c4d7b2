"""`rentune check` of a job file or a saved plan: whether `run` would take it, and what to know before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from planner.asked import read_whole
from planner.asking.options.overlay import on_host
from planner.notices.rows import cut_words, held_out_words, label_words, packed_words, short_words, text_words
from planner.report.epoch import epoch_words
from planner.report.words import note
from provision.commands.check.rows import most_tokens
from provision.commands.check.twins import twins_words
from provision.envelope.show import say, show
from provision.errors import BadInput, Exit
from provision.home.places import read_places
from provision.prepare.asking import data_measure
from provision.prepare.choosing import KeyQuestion, compiler_words, lacking_here, look_at_job
from provision.prepare.inputs.counting import twins_of
from provision.prepare.inputs.foreseen import foreseen

if TYPE_CHECKING:
    from planner.asking.request import Request
    from planner.plan import Plan

NOT_READY: Final = "the job is sound, yet `run` would stop here"


class JobLooked(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it was read, and what to know of it."""

    file: str
    job: Request | None = None  # None = it can't be run as it is
    held_out: str | None = None
    notes: tuple[str, ...] = ()
    lacking_here: tuple[str, ...] = ()  # what is wrong with this machine, not with the job


def check_job(path: Path, host: str | None, host_key: str | None, *, as_json: bool) -> int:
    """The request that the job file makes, its data files counted, all that `plan` and `run` refuse of it, and what is not
    ready here. The exit code: 2 where it can't be run.
    """
    read = read_whole(str(path), folder=Path.cwd(), measure=data_measure(quiet=as_json))
    if host is not None and read.request is not None:
        read = msgspec.structs.replace(read, request=on_host(read.request, host))
    if host_key is not None and (read.request is None or read.request.where.host is None):
        raise BadInput("--host-key is for a host of yours, and none is named.", hint="--host user@address")
    refused, plan = look_at_job(read, str(path), KeyQuestion(host_key, ask=None))
    sound = None if refused else plan
    request = None if read.faults else read.request
    looked = JobLooked(
        file=str(path),
        job=request,
        held_out=None if request is None else held_out_words(request.data),
        notes=() if request is None else (*_notes(request, plan), *(() if sound is None else (epoch_words(sound),))),
        lacking_here=() if sound is None else tuple(lacking_here(sound, read_places(), os.environ)),
    )
    code = Exit.REFUSED if refused else Exit.OK
    return show("check", looked, lambda: _draw(looked, is_sound=not refused), as_json=as_json, errors=refused, exit_code=code)


def _notes(request: Request, plan: Plan | None) -> Iterator[str]:
    """What to know of a job that can be read."""
    seq_len = request.training.get("seq_len") or most_tokens(request.model)
    cut = cut_words(request.data, seq_len) if seq_len is not None else None
    laid = packed_words(request.data, plan.strategy.seq_len) if plan is not None else None
    yield from filter(None, [cut, laid, short_words(request.data)])
    if request.data.path is not None:
        names = [name for name, _ in request.data.files]
        yield from text_words(Path(request.data.path).name, names, request.data.num_examples)
    yield from filter(None, [None if plan is None else compiler_words(plan, os.environ)])
    yield from label_words(request.data.classes)
    yield from foreseen(request)
    held_out = "held out and learned from, too, so that its loss says little"
    yield from twins_words(twins_of(request.data), held_out, request.data.files, ())


def _draw(looked: JobLooked, *, is_sound: bool) -> None:
    verdict = "can be run" if is_sound else "can't be run as it is"
    if looked.job is None:
        say(f"{looked.file} {verdict}.")
        return
    data = looked.job.data
    told = (
        f"{looked.file} {verdict}{':' if is_sound else '. It has'} {data.num_examples:,} examples of "
        f"{data.mean_tokens:.0f} tokens in the mean, {data.max_tokens} at most, {data.basis}; {looked.held_out}."
    )
    lacking = (f"{NOT_READY}: {each}" for each in looked.lacking_here)
    for sentence in (told, *map(note, (*looked.notes, *lacking))):
        say(sentence)
