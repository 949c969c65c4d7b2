"""A provider's offers as gpuhunt asks for them live, as its published files have them. A program of its own.

It runs apart from rentune, and imports nothing of it: what gpuhunt does, or never ends doing, ends with this process. On stdout
the table; where there is none, the last line of stderr says why, to stand after a colon.
"""

from __future__ import annotations

import csv
import importlib
import io
import resource
import signal
import sys
from collections.abc import Iterable
from typing import Any, Final

# Each table's columns that are read (catalogs/lists/hunted.py).
COLUMNS: Final = (
    "instance_name", "location", "price", "cpu", "memory", "gpu_count", "gpu_name", "gpu_memory", "spot", "gpu_vendor", "flags",
    "cpu_arch",
)  # fmt: skip
CLASSES: Final = {
    "crusoe": "CrusoeProvider",
    "digitalocean": "DigitalOceanProvider",
    "hotaisle": "HotAisleProvider",
    "jarvislabs": "JarvisLabsProvider",
    "lium": "LiumProvider",
    "seeweb": "SeewebProvider",
    "vastai": "VastAIProvider",
    "vultr": "VultrProvider",
}
NOWHERE: Final = "*"  # of an offer that names no place
MAX_ROWS: Final = 100_000  # assumed: thirty times what Vast is asked for
TOO_MANY: Final = 429  # derived: RFC 6585
VAST_ROWS: Final = 3_000  # derived: gpuhunt 0.1.34 asks for as many; without a word Vast gives 64 (recalled)

LARGER: Final = "its answer is larger than it may be"


class Unanswered(Exception):
    """`str(error)` says why."""


def main() -> int:
    """`hunt.py PROVIDER WITHIN_S MAX_TABLE_BYTES MAX_MEMORY_BYTES`, the provider by gpuhunt's name."""
    theirs, within_s, max_table_bytes, max_memory_bytes = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, within_s)  # also where whoever started us is gone
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_table_bytes, max_table_bytes))
    resource.setrlimit(resource.RLIMIT_AS, (max_memory_bytes, max_memory_bytes))
    try:
        _write(_ask(theirs), max_table_bytes)
    except Unanswered as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    return 0


def _ask(theirs: str) -> list[Any]:
    """The items of gpuhunt. Raises Unanswered."""
    try:
        from requests import RequestException

        module = importlib.import_module(f"gpuhunt.providers.{theirs}")
    except ImportError as error:
        raise Unanswered(f"gpuhunt can't be used: {error}") from None
    try:
        items: list[Any] = _provider(theirs, getattr(module, CLASSES[theirs])).get(_filter(theirs))
    except RequestException as error:
        raise Unanswered(_line_words(error)) from None
    except MemoryError:
        raise Unanswered(LARGER) from None
    except Exception as error:  # noqa: BLE001 - gpuhunt reads what comes without looking: whatever it trips over
        raise Unanswered(f"gpuhunt can't read its answer: {type(error).__name__} {_one_line(error)}".rstrip()) from None
    if len(items) > MAX_ROWS:
        raise Unanswered(f"it has more than {MAX_ROWS:,} rows")
    return items


def _provider(theirs: str, made: Any) -> Any:
    """What asks, from its own variables. Of Vast's hosts those that it has verified, and not the first few alone."""
    if theirs != "vastai":
        return made.from_env()

    class Whole(made):  # type: ignore[misc]  # gpuhunt's, known at run time
        def make_filters(self, q: Any) -> dict[str, Any]:
            return {**super().make_filters(q), "limit": VAST_ROWS, "verified": {"eq": True}}

    return Whole.from_env()


def _filter(theirs: str) -> Any:
    """All that a provider has. Vast's prices are told with a disk: of 1 GB here, for a plan adds its own."""
    from gpuhunt import QueryFilter

    return QueryFilter(min_disk_size=1) if theirs == "vastai" else QueryFilter()


def _line_words(error: Any) -> str:
    """What a person can do about a line that failed."""
    from requests import ConnectionError, Timeout

    answer = error.response
    if answer is not None and answer.status_code == TOO_MANY:
        after = answer.headers.get("Retry-After", "")
        return f"the server asks for patience ({TOO_MANY}), try again {f'in {after} s' if after.isdigit() else 'later'}"
    if answer is not None and answer.status_code >= 400:
        return f"the server said {answer.status_code} {answer.reason}".rstrip()
    if "malloc failure" in str(error):  # OpenSSL's words, where Python's own would be a MemoryError
        return LARGER
    if isinstance(error, Timeout):
        return "no answer in time"
    what = "it can't be reached" if isinstance(error, ConnectionError) else "gpuhunt can't read its answer"
    return f"{what}: {_one_line(error)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _write(items: Iterable[Any], max_bytes: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(_row(item) for item in items)
    table = text.getvalue().encode()
    if len(table) > max_bytes:
        raise Unanswered("its table is larger than it may be")
    sys.stdout.buffer.write(table)


def _row(item: Any) -> dict[str, object]:
    return {
        "instance_name": item.instance_name,
        "location": item.location or NOWHERE,
        "price": item.price,
        "cpu": item.cpu,
        "memory": item.memory,
        "gpu_count": item.gpu_count,
        "gpu_name": item.gpu_name or "",
        "gpu_memory": item.gpu_memory or "",
        "spot": item.spot,
        "gpu_vendor": item.gpu_vendor.value if item.gpu_vendor else "",
        "flags": " ".join(item.flags),
        "cpu_arch": item.cpu_arch.value,
    }


if __name__ == "__main__":
    sys.exit(main())
