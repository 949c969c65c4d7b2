"""Forms that hold columns: Parquet, and Arrow as `datasets` saves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from remote.data.files.packed import MAX_UNPACKED_BYTES
from remote.data.files.unreadable import UnreadableData, require_once

if TYPE_CHECKING:
    import pyarrow as pa

FILE_MARK: Final = b"ARROW1"  # source=https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format, read 2026-11
ROWS_AT_ONCE: Final = 1_024  # assumed: enough that a batch's own cost is none, and its rows take a few MB


def parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(row, mapping) pairs, rows counted from 1. Raises `UnreadableData` without pyarrow, which the training stack has."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UnreadableData(
            f"{path.name} is Parquet, which needs pyarrow, a part of the training stack; as JSONL it can be read without"
        ) from error
    if path.suffix.lower() != ".parquet":
        raise UnreadableData(f"{path.name}: Parquet is packed already; unpack what was put around it")
    try:
        with ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            held_bytes = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            if held_bytes > MAX_UNPACKED_BYTES:
                most = f"at most {MAX_UNPACKED_BYTES:,} are read"
                raise UnreadableData(f"{path.name} holds {held_bytes:,} bytes, {most}; split it, or take a part of it")
            require_once(file.schema_arrow.names, path.name)
            place = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for record in batch.to_pylist():
                    place += 1
                    yield place, record
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableData(f"{path.name}: no Parquet that can be read ({str(error).splitlines()[0]})") from error


def arrow_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Likewise of a stream of Arrow's, as `datasets` writes it, or of a file of its own kind. It is mapped, not read whole."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise UnreadableData(
            f"{path.name} is Arrow, which needs pyarrow, a part of the training stack; `datasets` writes it as JSONL (to_json)"
        ) from error
    if path.suffix.lower() != ".arrow":
        raise UnreadableData(f"{path.name}: unpack what was put around the Arrow file")
    try:
        with pa.memory_map(str(path)) as source:
            place = 0
            for batch in _batches(source):
                require_once(batch.schema.names, path.name)
                for at in range(0, batch.num_rows, ROWS_AT_ONCE):
                    for record in batch.slice(at, ROWS_AT_ONCE).to_pylist():
                        place += 1
                        yield place, record
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableData(f"{path.name}: no Arrow that can be read ({str(error).splitlines()[0]})") from error


def _batches(source: Any) -> Iterator[pa.RecordBatch]:
    """Of a stream, or of a file, which has a mark before it and a list of its batches behind it."""
    from pyarrow import ipc

    if source.read(len(FILE_MARK)) == FILE_MARK:
        with ipc.open_file(source) as file:
            yield from map(file.get_batch, range(file.num_record_batches))
    else:
        source.seek(0)
        with ipc.open_stream(source) as stream:
            yield from stream
