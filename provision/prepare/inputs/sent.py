"""How many bytes of a job lie here and go to its machine: what `ship_inputs` will send, by the files as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from catalogs.user_file import expanded
from planner.asking.request import Request
from planner.asking.sent import Sent
from provision.errors import RentuneError
from provision.prepare.inputs import find_base
from provision.prepare.inputs.base_files import read_files
from provision.prepare.inputs.parts import UnreadableData, brought, placed


def sent_of(request: Request) -> Sent:
    """Read from disk; what is not there, or is no base, is refused elsewhere and counts nothing here."""
    try:
        base = find_base(request.model)
    except RentuneError:
        return Sent(rest_bytes=_rest_bytes(request))
    at_home = base.path is not None and base.kind != "config"
    return Sent(
        base_bytes=_base_bytes(Path(base.path)) if base.path is not None and at_home else None,
        rest_bytes=_rest_bytes(request),
        packed=base.kind == "gguf",
    )


def _base_bytes(path: Path) -> int:
    return sum(map(_bytes_at, read_files(path))) if path.is_dir() else _bytes_at(path)


def _rest_bytes(request: Request) -> int:
    return sum(map(_bytes_at, _files(request)))


def _files(request: Request) -> Iterator[Path]:
    data, template = request.data, request.data.reading.template_path
    for path, more in ((data.path, data.more), (data.held_out_path, ())):
        if path is not None:
            yield from _parts(path, more)
    if template is not None:
        yield expanded(template)
    if request.loop.init_adapter is not None:
        yield expanded(request.loop.init_adapter)


def _parts(path: str, more: tuple[str, ...]) -> Iterator[Path]:
    try:
        first, *others = (str(expanded(brought(each))) for each in (path, *more))
        yield from map(Path, placed(first, "", tuple(others))[1])
    except UnreadableData:
        return


def _bytes_at(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    try:
        return sum(each.stat().st_size for each in (path.rglob("*") if path.is_dir() else (path,)) if each.is_file())
    except OSError:
        return 0
