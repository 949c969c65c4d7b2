"""python -m remote job.json — carry out a job; python -m remote check FILE [--model MODEL] — look at a data file;
python -m remote quantize BASE --into FOLDER — pack a base on the disk.
"""

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
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, get_args

import msgspec

from remote.checkpoints.files import write_whole
from remote.checkpoints.grants import GRANTS_VARIABLE, Grants
from remote.contract import (
    CHECKPOINT_DIR,
    DOUBLE_QUANTS,
    EVENTS_FILE,
    EXIT_CODES,
    JOB_FILE,
    MODEL_CACHE_VARIABLE,
    OUTCOME_FILE,
    PACKED_HERE,
    ROWS_CACHE_VARIABLE,
    SECRETS_VARIABLE,
    Dtype,
    EndReason,
    JobSpec,
    Measured,
    Outcome,
    Phase,
    StorageDtype,
    Strategy,
    decode,
    encode,
    exit_code,
)
from remote.data.check import GUESSED, Counter, check_data, counter_of
from remote.data.named import Columns
from remote.data.rows import FORMATS, UnreadableData
from remote.ends import Ended, bad_job, ended, first_line
from remote.machine.notice import listen
from remote.telemetry import Events, complain, say
from remote.training.collector import uncollected
from remote.watch import RESERVE_S, Watch
from remote.watchdog import Watchdog

T = TypeVar("T")

# Room for the last words on a full disk: written at the start, given back before the outcome is written.
BALLAST_FILE: Final = ".ballast"
BALLAST_BYTES: Final = 1 << 20  # assumed: an outcome and the last events take some kilobytes

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
    if arguments[:1] in (["check"], ["quantize"]):
        return {"check": check, "quantize": quantize}[arguments[0]](arguments[1:])
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
        from remote.desk import Desk
        from remote.machine.advice import Advisor
        from remote.machine.meters import Meters
        from remote.machine.readings import Host
        from remote.machine.sampler import Sampler, link_bytes_per_s
        from remote.trainer import quiet, run

        quiet()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    cache = Path(os.environ.get(MODEL_CACHE_VARIABLE) or folder / "cache")
    pusher = Pusher(grants, folder / CHECKPOINT_DIR, events) if grants is not None else None
    cut = partial(_cut_off, spec.run_id, folder, events)
    try:
        meters = Meters(spec.device)
        advisor = Advisor(link_bytes_per_s=link_bytes_per_s(meters.card))
        sampler = Sampler(events, Host(folder), meters.card, advisor)
        with Watchdog(cut, planned_step_s=spec.planned_step_s).awake() as watchdog, sampler.awake():
            desk = Desk(events=events, watch=watch, meters=meters, watchdog=watchdog, advisor=advisor, pusher=pusher)
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
    parser.add_argument("file", type=Path, help="a file, a folder of some, or a pattern")
    parser.add_argument("more", type=Path, nargs="*", help="files that are counted along, whole: a tokenizer loads slowly")
    parser.add_argument("--model", help="count tokens with the tokenizer in this folder or GGUF file")
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="how rows are read")
    parser.add_argument("--and", type=Path, action="append", default=[], dest="along", help="what is read with FILE as one")
    parser.add_argument("--template", help="chat template that conversations are written by: a file, or plain")
    parser.add_argument("--columns", default="{}", help="JSON: the name that rows are read by -> the file's")
    parser.add_argument("--max-rows", type=int, help="only the first so many, of FILE alone")
    asked = parser.parse_args(arguments)
    try:
        counter = _counter(asked.model, asked.template, writes=asked.format != "classification")
    except Ended as error:
        say(json.dumps({"error": str(error)}))
        return 2
    columns = json.loads(asked.columns)
    first = _checked(asked.file, counter, asked.format, columns, max_rows=asked.max_rows, along=asked.along)
    return max(first, *(_checked(file, counter, asked.format, columns) for file in asked.more), 0)


def quantize(arguments: list[str]) -> int:
    """Pack a base from disk to disk, and say after each file how far it is, as one JSON object a line; 0 when it is whole."""
    parser = argparse.ArgumentParser(prog="python -m remote quantize", description="Pack a base from disk to disk, as JSON.")
    parser.add_argument("base", help="a model folder, or a hub id")
    parser.add_argument(
        "--into", type=Path, required=True, help="the folder for what is packed; one that was begun is gone on with"
    )
    parser.add_argument("--revision", help="of a hub's base: the commit")
    parser.add_argument("--quant", choices=PACKED_HERE, default=PACKED_HERE[0])
    parser.add_argument("--single-quant", action="store_true", help="the scales are not quantized again")
    parser.add_argument(
        "--quant-storage", choices=get_args(StorageDtype), default="uint8", help="what packed weights are stored as"
    )
    parser.add_argument("--dtype", choices=get_args(Dtype), default="bfloat16", help="of the job's param_dtype")
    asked = parser.parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        _pack(asked)
    except Exception as error:  # noqa: BLE001 - every end is a sentence
        say(json.dumps({"error": str(ended(error, "quantizing"))}))
        return 2
    return 0


def _pack(asked: argparse.Namespace) -> None:
    from remote.bases import hub
    from remote.quantized.folder import pack

    strategy = Strategy(
        method="lora",
        quant=asked.quant,
        double_quant=asked.quant in DOUBLE_QUANTS and not asked.single_quant,
        quant_storage=asked.quant_storage,
        param_dtype=asked.dtype,
    )
    source = Path(asked.base) if Path(asked.base).exists() else Path(hub.fetch(asked.base, asked.revision))
    index = pack(source, asked.into, strategy, tell=lambda told: say(encode(told).decode()))
    say(json.dumps({"packed": str(asked.into), **msgspec.to_builtins(index.how), "files": len(index.sha256)}))


def _checked(
    file: Path, counter: Counter, kind: str, columns: Columns, *, max_rows: int | None = None, along: Sequence[Path] = ()
) -> int:
    try:
        report = check_data(file, counter, more=along, kind=kind, columns=columns, max_rows=max_rows)
    except UnreadableData as error:
        say(json.dumps({"error": str(error)}))
        return 2
    say(encode(report).decode())
    return 0 if not report.num_broken else 2


def _counter(model: str | None, template: str | None, *, writes: bool) -> Counter:
    """Raises `Ended` (bad job): the libraries know hundreds of ways to refuse a tokenizer."""
    if model is None:
        return GUESSED
    from remote.bases.tokenizer import load_tokenizer, prepare_tokenizer

    try:
        with tempfile.TemporaryDirectory() as passing:
            cache = Path(os.environ.get(MODEL_CACHE_VARIABLE) or passing)
            folder = prepare_tokenizer(Path(model), cache=cache)
            _spare_torch()
            named = os.environ.get(ROWS_CACHE_VARIABLE)
            return counter_of(load_tokenizer(folder, writes=writes), template, cache=Path(named) if named else None)
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
