"""Providers whose prices gpuhunt publishes nowhere: its package, the extra `gpuhunt`, asks each of them live.

gpuhunt runs in a process of its own: it downloads without a limit, and waits as long as an answer drips. Of all secrets that
process sees those of the one provider, in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import IO, Final

import msgspec

from catalogs.lists.refreshed import MAX_FILE_BYTES
from catalogs.user_file import MIB
from provision.fetching import NotFetched
from provision.prepare.prices.sources import LIVE, Live
from provision.redact import redact, without_secrets

EXTRA: Final = "gpuhunt"
PROGRAM: Final = Path(__file__).with_name("hunt.py")
WITHIN_S: Final = 60.0  # assumed: Vultr and JarvisLabs are asked region by region, each with a limit of 10 to 30 s
MAX_MEMORY_BYTES: Final = 1024 * MIB  # assumed: of its address space; Python with requests has 200 MiB
GRACE_S: Final = 5.0  # assumed: it ends itself before; this is for one that could not set its alarm
SAID_BYTES: Final = 4_000  # assumed: of its last words
PROXIES: Final = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"})


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """What gpuhunt is run with."""

    environment: Mapping[str, str]
    python: str = sys.executable
    within_s: float = WITHIN_S
    max_table_bytes: int = MAX_FILE_BYTES
    max_memory_bytes: int = MAX_MEMORY_BYTES

    def table(self, provider: str) -> str:
        """A provider's offers in the columns of gpuhunt's published files. Raises NotFetched."""
        live = LIVE[provider]
        if missing := [name for name in live.needed if not self.environment.get(name)]:
            raise NotFetched(f"gpuhunt asks with {' and '.join(missing)}, which {_is_not(missing)} in the environment")
        with tempfile.TemporaryFile() as table, tempfile.TemporaryFile() as said:
            code = self._run(live, table, said)
            if code:
                known = [self.environment[name] for name in (*live.needed, *live.also) if self.environment.get(name)]
                raise NotFetched(redact(_last_words(said), known, environment=self.environment))
            table.seek(0)
            return table.read().decode(errors="replace")

    def _run(self, live: Live, table: IO[bytes], said: IO[bytes]) -> int:
        """Its exit code. Raises NotFetched where it was ended, or could not begin."""
        limits = (self.within_s, self.max_table_bytes, self.max_memory_bytes)
        command = [self.python, "-P", str(PROGRAM), live.theirs, *map(str, limits)]
        own = without_secrets(self.environment, but=self._needed(live))
        late = f"no whole answer within {self.within_s:g} s"
        try:
            done = subprocess.run(
                command,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=table,
                stderr=said,
                timeout=self.within_s + GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotFetched(late, kind="unreached") from None
        except OSError as error:
            raise NotFetched(f"gpuhunt can't be started: {error.strerror}") from None
        if -done.returncode == signal.SIGALRM:  # its own
            raise NotFetched(late, kind="unreached")
        if done.returncode < 0:  # by whoever ends what takes too much memory
            raise NotFetched(f"gpuhunt was ended by signal {-done.returncode}")
        return done.returncode

    def _needed(self, live: Live) -> tuple[str, ...]:
        """What looks like a secret and is this provider's, or its proxy's."""
        return (*live.needed, *live.also, *(name for name in self.environment if name.upper() in PROXIES))


def is_installed() -> bool:
    """Whether this Python has gpuhunt."""
    return PathFinder.find_spec(EXTRA) is not None


def _last_words(said: IO[bytes]) -> str:
    """The last line of what it said, which is its own where it ended as it should."""
    said.seek(0, os.SEEK_END)
    said.seek(max(said.tell() - SAID_BYTES, 0))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "gpuhunt failed without a word"


def _is_not(names: list[str]) -> str:
    return "is not" if len(names) == 1 else "are not"
