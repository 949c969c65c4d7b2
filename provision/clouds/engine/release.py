"""The engine as its makers release it, fetched for whoever agrees; for whoever does not it is built from its Go modules.

What is fetched is one archive over https and the list of SHA-256 that its makers publish beside it. Of the archive two programs
are taken, and nothing of it runs before its hash is right: no script of theirs is executed.
"""

from __future__ import annotations

import os
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from provision.clouds.engine.build import SHIM, Progress, build_engine, find_engine, read_version
from provision.clouds.engine.where import VERSION, release_binary
from provision.errors import MissingPart
from provision.fetching import NotFetched, fetch, save
from provision.home.places import Places

# Where the archive and its list lie; the first that has both is taken. Both were seen in others' installers, 2026-11.
SOURCES: Final = (
    f"https://github.com/pulumi/pulumi/releases/download/v{VERSION}",
    "https://get.pulumi.com/releases/sdk",
)
SUMS: Final = f"pulumi-{VERSION}-checksums.txt"
SYSTEMS: Final = {  # what Python calls a machine -> what the release does
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Darwin", "arm64"): "darwin-arm64",
}
PROGRAMS: Final = ("pulumi", SHIM)  # of a dozen in the archive
MAX_SUMS_BYTES: Final = 100_000  # assumed: it has a dozen lines
MAX_ARCHIVE_BYTES: Final = 1 << 30  # assumed: a few hundred MB at most, as the built engine's 200
SUMS_WITHIN_S: Final = 30.0  # assumed
ARCHIVE_WITHIN_S: Final = 1800.0  # assumed: slower than 1 MB/s building it is no worse
QUESTION: Final = (
    f"Fetch Pulumi {VERSION} as its makers release it (github.com, else get.pulumi.com), checked by their SHA-256? "
    "If not, it is built from its Go modules, which takes 5 to 10 minutes."
)

Agrees = Callable[[str], bool]


def obtain_engine(
    places: Places,
    *,
    agrees: Agrees,
    progress: Progress,
    environment: Mapping[str, str] = os.environ,
    sources: tuple[str, ...] = SOURCES,
    system: tuple[str, str] | None = None,
) -> Path:
    """An engine that fits: the one that is here, else the release where `agrees(QUESTION)`, else our own build.

    A release that can't be had is told and built instead. Raises MissingPart where one is not what its makers say it is, and
    where no engine can be built.
    """
    here = find_engine(places, environment)
    if here is not None:
        return here
    name = SYSTEMS.get(system or (platform.system(), platform.machine()))
    if name is not None and agrees(QUESTION):
        try:
            return fetch_engine(places, f"pulumi-v{VERSION}-{name}.tar.gz", progress=progress, sources=sources)
        except NotFetched as error:
            progress(f"{error}; it is built from its Go modules instead")
    return build_engine(places, progress=progress, environment=environment)


def fetch_engine(places: Places, archive: str, *, progress: Progress, sources: tuple[str, ...] = SOURCES) -> Path:
    """The released engine of this archive, and the shim beside it, moved into place whole. Raises NotFetched where no source
    has it, MissingPart where it is not what its makers say.
    """
    binary = release_binary(places)
    root = binary.parents[1]
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".fetching-", ignore_cleanup_errors=True) as making:
        packed, programs = Path(making) / archive, Path(making) / "release" / "bin"
        _fetch_checked(packed, sources, progress)
        programs.mkdir(parents=True)
        _unpack(packed, programs)
        if (said := read_version(programs / binary.name)) != VERSION:
            raise MissingPart(f"The engine of {archive} calls itself {said or 'nothing'}, not {VERSION}.", hint=_OTHER_WAY)
        try:
            programs.parent.rename(root)
        except OSError:
            if not binary.exists():  # another process that was faster is fine
                raise
    return binary


_OTHER_WAY: Final = "Repeat `rentune doctor --install` and answer no: it is then built from its Go modules."


def _fetch_checked(packed: Path, sources: tuple[str, ...], progress: Progress) -> None:
    """The archive from the first source that has it and its hash."""
    whys = []
    for source in sources:
        progress(f"fetching {packed.name} from {source}")
        try:
            sums = fetch(f"{source}/{SUMS}", max_bytes=MAX_SUMS_BYTES, within_s=SUMS_WITHIN_S).decode(errors="replace")
            with packed.open("wb") as file:
                found = save(f"{source}/{packed.name}", file, max_bytes=MAX_ARCHIVE_BYTES, within_s=ARCHIVE_WITHIN_S)
        except NotFetched as error:
            whys.append(f"{source}: {error}")
            continue
        _require_hash(packed.name, found, sums, source)
        return
    raise NotFetched(f"{packed.name} could not be fetched ({'; '.join(whys)})")


def _require_hash(archive: str, found: str, sums: str, source: str) -> None:
    lines = [line.split() for line in sums.splitlines()]
    wanted = [words[0].lower() for words in lines if len(words) == 2 and words[1].lstrip("*") == archive]
    if wanted == [found]:
        return
    lack = f"its list says {wanted[0]}" if len(wanted) == 1 else f"its list has {len(wanted) or 'no'} such lines"
    raise MissingPart(
        f"{archive} from {source} has the SHA-256 {found}, and {lack}: nothing of it is used.",
        hint=_OTHER_WAY,
    )


def _unpack(packed: Path, programs: Path) -> None:
    """The programs by their names, each a plain file: no path and no link of the archive is followed."""
    wanted = {f"pulumi/{name}": programs / name for name in PROGRAMS}
    try:
        with tarfile.open(packed) as archive:
            for member in archive:
                inside = archive.extractfile(member) if member.isreg() and member.name in wanted else None
                if inside is not None:
                    with inside, wanted[member.name].open("wb") as file:
                        shutil.copyfileobj(inside, file)
                    wanted[member.name].chmod(0o755)
    except (tarfile.TarError, EOFError) as error:
        raise MissingPart(f"{packed.name} can't be unpacked: {error}", hint=_OTHER_WAY) from None
    if lacks := [name for name in PROGRAMS if not (programs / name).exists()]:
        raise MissingPart(f"{packed.name} has no {', '.join(lacks)}.", hint=_OTHER_WAY)
