"""What data is asked for: a file that is counted, with what is held out of it, or numbers that are stated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Final

import msgspec

from planner.asking.request import Counted, DataAsked, Request, RequestError
from remote.contract import HELD_OUT_ROWS, MAX_HELD_OUT_SHARE, DataFormat, Reading, Task, place_words

ON_HUB: Final = "hub:"  # in front of OWNER/NAME: a data set of the hub's, fetched when it is counted
DEFAULT_EXAMPLES: Final = 1_000  # assumed: a small instruction set (LIMA, arXiv:2305.11206, tunes on 1,000 rows)
DEFAULT_TOKENS_PER_EXAMPLE: Final = 512  # assumed: an instruction and its answer with room (QLoRA, arXiv:2305.14314: 384 + 128)

OF_TASK: Final[Mapping[Task, DataFormat]] = {"classification": "classification", "seq2seq": "instruction"}


def format_of(task: Task, said: DataFormat) -> DataFormat:
    """How rows are read: a task that tells classes apart, or answers a text by another, has rows of one kind."""
    return OF_TASK.get(task, said) if said == "auto" else said


class DataFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to be measured: what the trainer will be told of it, and the model whose tokens count."""

    path: str
    more: tuple[str, ...] = ()
    reading: Reading = Reading()
    model: str
    along: str | None = None  # another file that is asked for next: what reads both at once need not begin twice


class Lengths(Counted, frozen=True, kw_only=True):
    """What is counted in a file."""

    num_rows: int
    no_classes: str | None = None  # why nothing can be learned of its classes


Measure = Callable[[DataFile], Lengths]  # raises RequestError for what can't be trained on


def measured_data(
    file: DataFile, *, measure: Measure | None, held_out_path: str | None = None, held_out_rows: int | None = None
) -> DataAsked:
    """Data in a file. Without a file of held-out rows some are kept back: as said, else 200, never more than a fifth."""
    if measure is None:
        raise RequestError(f"{file.path} cannot be read here", hint="say --examples and --tokens instead")
    lengths, too_many = measure(msgspec.structs.replace(file, along=held_out_path)), None
    if lengths.no_classes is not None:
        raise RequestError(f"{file.path}: {lengths.no_classes}")
    if held_out_path is not None:
        apart = _measured_apart(measure, _held_out_of(file, held_out_path))
        _require_learned(lengths, apart, held_out_path)
        num_trained, num_held_out, held_out_profile = lengths.num_rows, apart.num_rows, apart.profile
    else:
        num_held_out = _held_out(lengths.num_rows, HELD_OUT_ROWS if held_out_rows is None else held_out_rows)
        num_trained, held_out_profile = lengths.num_rows - num_held_out, ()
        too_many = held_out_rows if held_out_rows is not None and held_out_rows > num_held_out else None
    return DataAsked(
        path=file.path,
        more=file.more,
        reading=file.reading,
        num_examples=num_trained,
        held_out_rows=num_held_out,
        held_out_wanted=too_many,
        held_out_path=held_out_path,
        held_out_profile=held_out_profile,
        **{name: getattr(lengths, name) for name in Counted.__struct_fields__},
    )


def measured_again(
    request: Request, *, examples: int | None = None, columns: Mapping[str, str] = {}, measure: Measure | None
) -> DataAsked:
    """The request's own files as they are by now, with fewer rows or in the tokens of another model."""
    data, read = request.data, request.data.reading
    reading = msgspec.structs.replace(
        read,
        format=format_of(request.task, "auto" if read.format in OF_TASK.values() else read.format),
        columns=dict(columns) or read.columns,
        max_rows=examples or read.max_rows,
    )
    file = DataFile(path=data.path or "", more=data.more, reading=reading, model=request.model)
    held_out_rows = data.held_out_rows if data.held_out_path is None else None
    return measured_data(file, measure=measure, held_out_path=data.held_out_path, held_out_rows=held_out_rows)


def usually_held_out(num_rows: int) -> int:
    """Rows of a file that are kept back where nobody says how many."""
    return _held_out(num_rows, HELD_OUT_ROWS)


def _held_out(num_rows: int, wanted: int) -> int:
    return min(wanted, int(num_rows * MAX_HELD_OUT_SHARE))


def _require_learned(learned: Lengths, judged: Lengths, path: str) -> None:
    """Raises RequestError for a label that is judged by and never learned."""
    known = {name for name, _, _ in learned.classes}
    for name, _, line in judged.classes:
        if name not in known:
            raise RequestError(
                f'{path}, line {place_words(line, judged.files)}: the label "{name}" stands in no row to learn from',
                hint="add rows of it to learn from, or leave it out here",
                place=("data", "held_out"),
            )


def _held_out_of(file: DataFile, path: str) -> DataFile:
    """All rows of another file, read as those of this one."""
    reading = msgspec.structs.replace(file.reading, max_rows=None)
    return msgspec.structs.replace(file, path=path, more=(), reading=reading)


def _measured_apart(measure: Measure, file: DataFile) -> Lengths:
    try:
        return measure(file)
    except RequestError as error:
        error.place = ("data", "held_out")
        raise


def default_data() -> DataAsked:
    """The job that is planned when nothing was said about data: 1,000 examples of 512 tokens."""
    return stated_data(tokens_per_example=DEFAULT_TOKENS_PER_EXAMPLE)


def stated_data(
    *,
    tokens_per_example: int,
    num_examples: int | None = None,
    num_tokens: int | None = None,
    mean_tokens: float | None = None,
    max_tokens: int | None = None,
    held_out_rows: int = 0,
) -> DataAsked:
    """Data known only by numbers: what is not said follows from the rest, and from `tokens_per_example`.

    `num_tokens` are those of one pass over all examples, so with both the mean is their quotient. The longest example has at
    least as many tokens as the mean, and as `tokens_per_example`, unless `max_tokens` says otherwise.
    """
    for name, number, hint in (("examples", num_examples, "1000"), ("tokens", num_tokens, "500000")):
        if num_tokens is not None and number is not None and number < 1:  # else `checked` refuses it, with its place
            raise RequestError(f"{name} is {number:,} and must be at least 1", hint=f"such as {name} {hint}")
    if num_examples is not None and num_tokens is not None and num_tokens < num_examples:
        raise RequestError(
            f"{num_tokens:,} tokens cannot fill {num_examples:,} examples",
            hint="--tokens counts the tokens of one pass over all examples",
        )
    said = any(number is not None for number in (num_examples, num_tokens, mean_tokens, max_tokens))
    if num_examples is None:
        num_examples = DEFAULT_EXAMPLES if num_tokens is None else max(1, -(-num_tokens // tokens_per_example))
    if mean_tokens is None:
        mean_tokens = tokens_per_example if num_tokens is None else num_tokens / num_examples
    if max_tokens is None:
        whole = -int(-mean_tokens // 1) if isfinite(mean_tokens) else 0  # `checked` refuses it by its name
        max_tokens = max(tokens_per_example, whole)
    return DataAsked(
        num_examples=num_examples,
        mean_tokens=float(mean_tokens),
        max_tokens=max_tokens,
        basis="stated" if said else "default",
        held_out_rows=held_out_rows,
    )
