"""Newer prices from gpuhunt's public files, or by its package from a provider itself: judged, and kept only if they can be
believed, a file a provider.
"""

from __future__ import annotations

import datetime as dt
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from catalogs.catalog import Catalog, CatalogError
from catalogs.lists.compared import doubts
from catalogs.lists.hunted import Hunted, read_hunted
from catalogs.lists.refreshed import MAX_FILE_BYTES, PriceList, path_of, read_price_list
from catalogs.user_file import MIB, shortened
from provision.fetching import Kind, NotFetched, fetch
from provision.home.whole import at_home, write_whole
from provision.prepare.prices.live import EXTRA, Asker
from provision.prepare.prices.sources import LIVE, PUBLISHED

BUCKET: Final = "https://dstack-gpu-pricing.s3.eu-west-1.amazonaws.com/v3"  # gpuhunt 0.1.34, CATALOG_URL
WITHIN_S: Final = 20.0  # assumed: the largest file has some MiB
MAX_VERSION_BYTES: Final = 1_000  # assumed: it is a date and a number
MAX_TABLE_BYTES: Final = 256 * MIB  # assumed; unpacked
NUM_AT_ONCE: Final = 4  # assumed: it is somebody's bucket
DAY_DIGITS: Final = 8  # derived: a version begins with the day of its making, 20261120-…

State = Literal["new", "unchanged", "refused"] | Kind


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a provider's prices. `offers` and `observed_on` are of what is kept now; None = nothing is."""

    provider: str
    state: State
    num_offers: int | None
    observed_on: dt.date | None
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """Where a provider's table is to be had, and of which day it is."""

    version: str
    observed_on: dt.date
    is_final: bool  # whether a version is the same for ever
    table: Callable[[], str]  # raises NotFetched


@dataclass(frozen=True)
class Refresh:
    """Where prices come from, where they are kept, and what they are judged by."""

    folder: Path
    catalog: Catalog  # as shipped
    today: dt.date
    asker: Asker  # of whom nothing is published
    accept: bool = False  # what looks wrong, too
    url: str = BUCKET
    within_s: float = WITHIN_S

    def all(self, providers: Iterable[str]) -> tuple[Refreshed, ...]:
        """Each by itself: one that fails, or looks wrong, keeps its last good file. Raises HomeFailed."""
        with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
            return tuple(pool.map(self.one, providers))

    def one(self, provider: str) -> Refreshed:
        """A provider by our name for it. Raises HomeFailed where the file can't be written."""
        before = read_price_list(self.folder, provider)
        try:
            source = self._asked(provider) if provider in LIVE else self._published(provider)
            if before is not None and before.version == source.version and source.is_final:
                return _told(provider, "unchanged", before)
            found = read_hunted(source.table(), provider, self.catalog, observed_on=source.observed_on)
        except NotFetched as error:
            return _told(provider, error.kind, before, (str(error),))
        except CatalogError as error:
            return _told(provider, "failed", before, (str(error),))
        if (wrong := self._doubts(provider, before, found)) and not self.accept:
            return _told(provider, "refused", before, wrong)
        if not found.offers:
            return _told(provider, "refused", before, ("it has no machine with a GPU that the catalog knows",))
        prices = PriceList(provider=provider, version=source.version, observed_on=source.observed_on, offers=found.offers)
        write_price_list(self.folder, provider, prices)
        return _told(provider, "new", prices, wrong)

    def _published(self, provider: str) -> _Source:
        """The file of gpuhunt's bucket. Raises NotFetched."""
        theirs = PUBLISHED[provider]
        version = self._fetch(f"{theirs}/version", MAX_VERSION_BYTES).decode(errors="replace").strip()

        def table() -> str:
            packed = self._fetch(f"{theirs}/{_word(version)}/catalog.zip", MAX_FILE_BYTES)
            return _unpack(packed, f"{theirs}.csv")

        return _Source(version=version, observed_on=self._day(version), is_final=True, table=table)

    def _asked(self, provider: str) -> _Source:
        """What the provider says today. Raises NotFetched."""
        day = LIVE[provider].priced_on or self.today
        version = f"{day:%Y%m%d}-{EXTRA}"
        return _Source(version=version, observed_on=day, is_final=False, table=lambda: self.asker.table(provider))

    def _fetch(self, name: str, max_bytes: int) -> bytes:
        return fetch(f"{self.url.rstrip('/')}/{name}", max_bytes=max_bytes, within_s=self.within_s)

    def _day(self, version: str) -> dt.date:
        """The day that a version names. Raises NotFetched for none, and for one to come."""
        try:
            day = dt.datetime.strptime(version[:DAY_DIGITS], "%Y%m%d").replace(tzinfo=dt.UTC).date()
        except ValueError:
            raise NotFetched(f'its version, "{shortened(version)}", does not begin with a day') from None
        if day > self.today:
            raise NotFetched(f"its prices are of {day}, which is to come")
        return day

    def _doubts(self, provider: str, before: PriceList | None, found: Hunted) -> tuple[str, ...]:
        """Against the last good file, else against the shipped prices, which are another selection of machines."""
        shipped = tuple(offer for offer in self.catalog.offers if offer.provider == provider and offer.gpu)
        earlier = shipped if before is None else before.offers
        free = (f"{len(found.free):,} prices are 0 $, one of them of {found.free[0]}",) if found.free else ()
        return (*free, *doubts(earlier, found.offers, same_source=before is not None))


def write_price_list(folder: Path, provider: str, prices: PriceList) -> None:
    """Whole, or as it was. Raises HomeFailed."""
    path = path_of(folder, provider)
    with at_home(path):
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.encode(prices))


def _told(provider: str, state: State, prices: PriceList | None, says: tuple[str, ...] = ()) -> Refreshed:
    return Refreshed(
        provider=provider,
        state=state,
        num_offers=None if prices is None else len(prices.offers),
        observed_on=None if prices is None else prices.observed_on,
        says=says,
    )


def _word(version: str) -> str:
    """A version that can stand in an address. Raises NotFetched."""
    if not all(letter.isalnum() or letter in "-._" for letter in version):
        raise NotFetched(f'its version, "{shortened(version)}", can stand in no address')
    return version


def _unpack(packed: bytes, name: str) -> str:
    """The table in an archive. Raises NotFetched."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if archive.getinfo(name).file_size > MAX_TABLE_BYTES:
                raise NotFetched(f"{name} is larger than {MAX_TABLE_BYTES:,} bytes")
            return archive.read(name).decode("utf-8")
    except KeyError:
        raise NotFetched(f"the archive has no {name}") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ):  # bz2: OSError
        raise NotFetched("the archive is damaged") from None
    except UnicodeDecodeError:
        raise NotFetched(f"{name} is not UTF-8 text") from None
