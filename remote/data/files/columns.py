"""Forms that hold columns: Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from remote.data.files.packed import MAX_UNPACKED_BYTES
from remote.data.files.unreadable import UnreadableData

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
            place = 0
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                for record in batch.to_pylist():
                    place += 1
                    yield place, record
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableData(f"{path.name}: no Parquet that can be read ({str(error).splitlines()[0]})") from error
