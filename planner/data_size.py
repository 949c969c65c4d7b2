"""How much there is to train on: rows of a data file and their lengths in tokens, by a tokenizer only where one is at hand.

The rows are read as the trainer reads them (remote/data/rows.py; a test holds the two tables together), so what can't be
trained on is refused here, before anything is rented.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from catalogs.user_file import MAX_DATA_BYTES, FileUnusable, decode_json, exists, read_text, shortened
from planner.request import Basis, Lengths, RequestError

CHARACTERS_PER_TOKEN: Final = 3.6  # assumed: English text under vocabularies of 32k to 150k; code and other scripts have fewer
TEMPLATE_TOKENS_PER_MESSAGE: Final = 5  # assumed: role and turn marks of ChatML and its kin

PROMPT_KEYS: Final = ("instruction", "prompt", "question")
CONTEXT_KEYS: Final = ("input", "context")
ANSWER_KEYS: Final = ("output", "response", "completion", "answer")
CHAT_KEYS: Final = ("messages", "conversations")
TEXT_KEY: Final = "text"

Count = Callable[[str], int]  # tokens of a text, by the model's tokenizer


class DataError(RequestError):
    """A data file that can't be trained on; the message names file and line."""


def read_tokenizer(model: Path) -> Count | None:
    """The tokenizer in a model folder; None where there is none, or where the light install has no library for it."""
    file = model / "tokenizer.json"
    if not exists(file) or find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the library raises nothing more special
        raise DataError(f"{file} is no tokenizer: {error}", hint="the folder of a model as transformers saves it") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def read_lengths(path: Path, *, max_rows: int | None = None, count: Count | None = None) -> Lengths:
    """Read a file and measure it. Raises DataError naming the line of the first row that can't be used."""
    try:
        text = read_text(path, max_bytes=MAX_DATA_BYTES)
    except FileUnusable as error:
        hint = "--data FILE in UTF-8, or --examples and --tokens"
        raise DataError(f"{shortened(str(path))} {error}", hint=hint) from None
    return measure_text(text, name=path.name, max_rows=max_rows, count=count)


def measure_text(text: str, *, name: str, max_rows: int | None = None, count: Count | None = None) -> Lengths:
    """Number, mean and greatest length of the rows in `text`; the suffix of `name` says how it is written."""
    reader = READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise DataError(f"{name}: unknown kind of file", hint=f"write it as {', '.join(READERS)}")
    lengths: list[int] = []
    for line, record in reader(text, name):
        if max_rows is not None and len(lengths) >= max_rows:
            break
        texts = _texts(record, f"{name}, line {line}")
        lengths.append(_num_tokens(texts, count))
    if not lengths:
        raise DataError(f"{name} holds no rows", hint='one JSON object a line: {"prompt": "…", "completion": "…"}')
    basis: Basis = "counted by the model's tokenizer" if count is not None else "estimated from characters"
    return Lengths(num_rows=len(lengths), mean_tokens=sum(lengths) / len(lengths), max_tokens=max(lengths), basis=basis)


def _num_tokens(texts: list[str], count: Count | None) -> int:
    marks = TEMPLATE_TOKENS_PER_MESSAGE * len(texts)
    if count is not None:
        return sum(map(count, texts)) + marks
    return max(1, round(sum(map(len, texts)) / CHARACTERS_PER_TOKEN) + marks)


def _texts(record: Any, place: str) -> list[str]:
    """Everything of a row that becomes tokens."""
    if not isinstance(record, Mapping):
        raise DataError(f"{place}: a row must be an object", hint='{"prompt": "…", "completion": "…"}')
    if chat := next((record[key] for key in CHAT_KEYS if key in record), None):
        turns = [turn.get("content", turn.get("value")) for turn in chat if isinstance(turn, Mapping)]
        return [turn for turn in turns if isinstance(turn, str)]
    if _first(record, PROMPT_KEYS) is not None and _first(record, ANSWER_KEYS) is not None:
        found = [_first(record, keys) for keys in (("system",), PROMPT_KEYS, CONTEXT_KEYS, ANSWER_KEYS)]
        return [text for text in found if text]
    if isinstance(record.get(TEXT_KEY), str):
        return [record[TEXT_KEY]]
    keys = ", ".join(sorted(map(str, record))) or "none"
    raise DataError(f"{place}: no known keys (found: {keys})", hint='use "messages", "prompt" with "completion", or "text"')


def _first(record: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((record[key] for key in keys if isinstance(record.get(key), str)), None)


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json_lines(text: str, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, decode_json(line)
            except ValueError as error:
                raise DataError(
                    f"{name}, line {number}: not JSON ({error})", hint="`rentune check` lists every bad row"
                ) from None


def _json_list(text: str, name: str) -> Iterator[tuple[int, Any]]:
    try:
        whole = decode_json(text)
    except ValueError as error:
        raise DataError(f"{name} is not JSON: {error}") from None
    rows = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(rows, list):
        raise DataError(f"{name} must hold a list of rows", hint='[{"prompt": "…", "completion": "…"}, …]')
    yield from enumerate(rows, start=1)


def _table(delimiter: str) -> Callable[[str, str], Iterator[tuple[int, Any]]]:
    def read(text: str, name: str) -> Iterator[tuple[int, Any]]:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        try:
            for record in rows:
                yield rows.line_num, record
        except csv.Error as error:
            raise DataError(f"{name}, line {rows.line_num}: not a table ({error})") from None

    return read


def _text_lines(text: str, name: str) -> Iterator[tuple[int, Any]]:  # noqa: ARG001 - a reader's signature
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, {TEXT_KEY: line}


READERS: Final[Mapping[str, Callable[[str, str], Iterator[tuple[int, Any]]]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_list,
    ".csv": _table(","),
    ".tsv": _table("\t"),
    ".txt": _text_lines,
}
