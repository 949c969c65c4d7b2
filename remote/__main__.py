"""python -m remote job.json — carry out a job; python -m remote check FILE [--model MODEL] — look at a data file."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from remote.checkpoints.checkpoint import write_whole
from remote.checkpoints.grants import GRANTS_VARIABLE, Grants
from remote.collector import uncollected
from remote.contract import (
    CHECKPOINT_DIR,
    EVENTS_FILE,
    EXIT_CODES,
    JOB_FILE,
    MODEL_CACHE_VARIABLE,
    OUTCOME_FILE,
    SECRETS_VARIABLE,
    EndReason,
    JobSpec,
    Measured,
    Outcome,
    Phase,
    decode,
    encode,
    exit_code,
)
from remote.data.check import GUESSED, Counter, check_data, counter_of
from remote.data.rows import FORMATS, UnreadableData
from remote.ends import Ended, bad_job, ended, first_line
from remote.machine.notice import listen
from remote.telemetry import Events, complain, say
from remote.watch import RESERVE_S, Watch
from remote.watchdog import Watchdog

T = TypeVar("T")

# Room for the last words on a full disk: written at the start, given back before the outcome is written.
BALLAST_FILE: Final = ".ballast"
BALLAST_BYTES: Final = 1 << 20

# Set before the libraries are imported, unless the box says otherwise.
ENVIRONMENT: Final = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for each other burn a busy machine's time (docs/LOG.md)
    "TOKENIZERS_PARALLELISM": "true",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["check"]:
        return check(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m remote", description=__doc__)
    parser.add_argument("job", type=Path, nargs="?", default=Path(JOB_FILE), help="job.json; everything else lies beside it")
    job: Path = parser.parse_args(arguments).job
    folder = (job if job.is_dir() else job.parent).resolve()
    return carry_out(folder / JOB_FILE if job.is_dir() else folder / job.name)


def carry_out(job: Path, *, watch: Watch | None = None) -> int:
    """Run the job, or go on with it, and leave `outcome.json` beside it; returns the exit code.

    A run that has ended stays ended: the same outcome, nothing done. Only an interrupted one goes on.
    """
    started_s = time.monotonic()
    folder = job.parent
    past = _past_outcome(folder / OUTCOME_FILE)
    if past is not None and past.reason != EndReason.INTERRUPTED:
        return exit_code(past)
    (folder / OUTCOME_FILE).unlink(missing_ok=True)
    with Events(folder / EVENTS_FILE) as events:
        events.enter(Phase.ENVIRONMENT, since_s=started_s)
        with contextlib.suppress(OSError):  # a disk that is full now will say so at its first real write
            (folder / BALLAST_FILE).write_bytes(bytes(BALLAST_BYTES))
        outcome = _run(job, events, watch)
        _leave_word(folder, outcome, events)
    return exit_code(outcome)


def _leave_word(folder: Path, outcome: Outcome, events: Events) -> None:
    (folder / BALLAST_FILE).unlink(missing_ok=True)
    write_whole(folder / OUTCOME_FILE, encode(outcome))
    with contextlib.suppress(OSError):  # the outcome says the same
        events.emit("ended", reason=outcome.reason, message=outcome.message, exit_code=exit_code(outcome))
    complain(f"{outcome.reason}: {outcome.message}")


def _past_outcome(path: Path) -> Outcome | None:
    return decode(path.read_bytes(), Outcome) if path.is_file() else None


def _run(job: Path, events: Events, watch: Watch | None) -> Outcome:
    run_id = "unknown"
    try:
        spec = _read(job)
        run_id = spec.run_id
        if watch is None:
            watch = Watch(deadline_at_s=spec.deadline_at_s, reserve_s=RESERVE_S)
            watch.listen()
        return _train(spec, job.parent, events, watch)
    except Exception as error:  # noqa: BLE001 - every end is an outcome; the log keeps the traceback
        end = ended(error, events.phase)
        if end.reason in (EndReason.CRASHED, EndReason.OUT_OF_MEMORY):
            complain("".join(traceback.format_exception(error)))
        return _without_result(run_id, end, events)


def _read(job: Path) -> JobSpec:
    try:
        return decode(job.read_bytes(), JobSpec)
    except OSError as error:
        raise Ended(EndReason.BAD_JOB, f"{job} can't be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise Ended(EndReason.BAD_JOB, f"{job.name}: {error}") from error


def take_secrets() -> None:
    """Put the variables that the controller has handed over into this process, and remove the file that held them."""
    os.environ.update(_taken(SECRETS_VARIABLE, dict[str, str]) or {})  # without them the hub will say what is missing


def take_grants() -> Grants | None:
    """What the controller grants in object storage, and remove the file that held it: this process alone has it then.

    Not as variables: they would be too long for a process to be started with.
    """
    return _taken(GRANTS_VARIABLE, Grants)


def _taken(variable: str, kind: type[T]) -> T | None:
    """What lies in the file that the variable names, read once."""
    place = os.environ.pop(variable, None)
    if place is None:
        return None
    with contextlib.suppress(OSError, msgspec.DecodeError):
        taken = decode(Path(place).read_bytes(), kind)
        Path(place).unlink()
        return taken
    return None


def _train(spec: JobSpec, folder: Path, events: Events, watch: Watch) -> Outcome:
    watch.check()
    if spec.notice_from is not None:
        listen(spec.notice_from, watch.announce)
    take_secrets()
    grants = take_grants()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if spec.model.kind != "hub":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with uncollected():
        import torch

        from remote.checkpoints.push import Pusher
        from remote.loop import Desk
        from remote.machine.meters import Meters
        from remote.trainer import quiet, run

        quiet()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    cache = Path(os.environ.get(MODEL_CACHE_VARIABLE) or folder / "cache")
    pusher = Pusher(grants, folder / CHECKPOINT_DIR, events) if grants is not None else None
    cut = partial(_cut_off, spec.run_id, folder, events)
    try:
        with Watchdog(cut, planned_step_s=spec.planned_step_s).awake() as watchdog:
            desk = Desk(events=events, watch=watch, meters=Meters(spec.device), watchdog=watchdog, pusher=pusher)
            return run(spec, folder, cache=cache, desk=desk)
    except Ended as end:
        if pusher is not None and end.reason == EndReason.INTERRUPTED:  # the box may be taken away, and its disk with it
            pusher.finish()
        raise


def _cut_off(run_id: str, folder: Path, events: Events, silent_s: float, longest_s: float) -> None:
    """End this process, whose main thread waits for what never comes: with a word of it, and where it waits in the log.

    No meter of the card is asked: it may be the card that gives no answer.
    """
    before = f", where none before took {longest_s:.0f} s" if longest_s else ""
    message = f"during {events.phase} nothing went on for {silent_s:.0f} s{before}; the log says what it waited for"
    faulthandler.dump_traceback(all_threads=True)
    try:
        _leave_word(folder, _without_result(run_id, Ended(EndReason.STALLED, message), events), events)
    finally:
        os._exit(EXIT_CODES[EndReason.STALLED])  # no thread of it is waited for


def _without_result(run_id: str, end: Ended, events: Events) -> Outcome:
    from remote.machine.meters import peak_ram_bytes

    with contextlib.suppress(OSError):  # on a full disk the outcome matters more than the phase's last line
        events.leave()
    return Outcome(
        run_id=run_id,
        reason=end.reason,
        message=str(end),
        phase_s=dict(events.phase_s),
        measured=end.measured or Measured(peak_ram_bytes=peak_ram_bytes()),
    )


def check(arguments: list[str]) -> int:
    """Say what each data file holds, as one JSON object a line; 0 when every row can be read."""
    parser = argparse.ArgumentParser(prog="python -m remote check", description="Say what a data file holds, as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("more", type=Path, nargs="*", help="files that are counted along, whole: a tokenizer loads slowly")
    parser.add_argument("--model", help="count tokens with the tokenizer in this folder or GGUF file")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="how rows are read")
    parser.add_argument("--max-rows", type=int, help="only the first so many, of FILE alone")
    asked = parser.parse_args(arguments)
    try:
        counter = _counter(asked.model)
    except Ended as error:
        say(json.dumps({"error": str(error)}))
        return 2
    first = _checked(asked.file, counter, asked.format, asked.max_rows)
    return max(first, *(_checked(file, counter, asked.format, None) for file in asked.more), 0)


def _checked(file: Path, counter: Counter, kind: str, max_rows: int | None) -> int:
    try:
        report = check_data(file, counter, kind=kind, max_rows=max_rows)
    except UnreadableData as error:
        say(json.dumps({"error": str(error)}))
        return 2
    say(encode(report).decode())
    return 0 if not report.num_broken else 2


def _counter(model: str | None) -> Counter:
    """Raises `Ended` (bad job): the libraries know hundreds of ways to refuse a tokenizer."""
    if model is None:
        return GUESSED
    from remote.base import load_tokenizer, prepare_tokenizer

    try:
        with tempfile.TemporaryDirectory() as passing:
            cache = Path(os.environ.get(MODEL_CACHE_VARIABLE) or passing)
            folder = prepare_tokenizer(Path(model), cache=cache)
            _spare_torch()
            return counter_of(load_tokenizer(folder))
    except Ended:
        raise
    except Exception as error:
        raise bad_job(f"the tokenizer of {model} can't be read: {first_line(error)}") from error


def _spare_torch() -> None:
    """Keep transformers from loading torch: a tokenizer needs none of it, and it is two thirds of the wait.

    measured 2026-11-26 with SmolLM2's tokenizer: 1.8 s of a core instead of 6.4 (torch 2.15, transformers 5.24).
    """
    if __name__ == "__main__":  # a process of its own; whoever imports this module may need torch
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", ENVIRONMENT["TRANSFORMERS_VERBOSITY"])  # else it says that torch lacks
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type] # Python's own mark of a module that is not there


if __name__ == "__main__":
    sys.exit(main())
