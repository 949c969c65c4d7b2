"""Looks for secrets where others could see them: in the command lines and environments of all processes, and in files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PLANTED = {
    "HF_TOKEN": "hf_planted0token0of0the0hub0000000",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+of/the/account",
    "A_DATABASE_PASSWORD": "planted password of something else",
}
MOST_BYTES = 2**22  # of a command line or an environment: twice what Linux takes for both, unless its stack limit is raised
LOOK_S = 0.02  # a command line is visible as long as its process runs; the shortest of ours take 50 ms


class Probe:
    """Watches every process of this machine while its block runs. A secret may be named once it exists.

    `may_know` says of a secret's name and a command line whether that process has it in its environment rightly.
    """

    def __init__(self, secrets: Mapping[str, str], *, may_know: Callable[[str, str], bool] = lambda _secret, _command: False):
        self.secrets = dict(secrets)
        self.num_looks = 0
        self.seen: set[tuple[str, str, str]] = set()  # where, which secret, whose command line
        self._may_know = may_know
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def learn(self, name: str, key: str) -> None:
        """A private key in PEM: by its last full line. The first ones are a header, the same in all keys of a kind."""
        *_, told, _rest, _end = key.splitlines()
        self.secrets[name] = told

    def in_files(self, *roots: Path, but: Iterable[Path] = ()) -> list[tuple[str, str]]:
        """Which secret lies in which file below these roots, but for the files where it belongs."""
        belongs = set(but)
        files = [path for root in roots for path in _files(root) if path not in belongs]
        return [(name, str(path)) for path in files for name in self.in_text(path.read_bytes())]

    def in_text(self, text: bytes) -> list[str]:
        """The names of the secrets that stand in it."""
        return [name for name, secret in list(self.secrets.items()) if secret.encode() in text]

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self.num_looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    self._look_at(process)

    def _look_at(self, process: Path) -> None:
        command, environment = _told_by(process)
        words = command.replace(b"\0", b" ").decode("utf-8", "replace")
        self.seen.update(("command line", name, words) for name in self.in_text(command))
        known = self.in_text(environment)
        self.seen.update(("environment", name, words) for name in known if not self._may_know(name, words))


def _told_by(process: Path) -> tuple[bytes, bytes]:
    """Its command line and its environment, both of one program: between two looks a process may become another."""
    command = _at_once(process / "cmdline")
    while True:
        environment = _at_once(process / "environ")
        if command == (command := _at_once(process / "cmdline")):
            return command, environment


def _at_once(file: Path) -> bytes:
    """By a single call: one that reads until the end could begin with one program and end with the next."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file() and not path.is_symlink())
