"""The names that a request may use of the market, and what was meant by one that nobody has: of cards, providers, regions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from catalogs.catalog import Catalog, GpuUnknown
from catalogs.failure import KeyPath
from catalogs.hardware import Offer
from catalogs.user_file import shortened
from planner.asking.policy import LEAST_LETTERS, alike_patterns, matches
from planner.asking.request import HERE, HOST, RequestError, Where
from planner.notices.cards import BOX_VENDOR
from planner.plan import Cards

MAX_NAMES: Final = 8  # as many as a sentence holds
CONTINENTS: Final = frozenset({"us", "eu", "ap", "as", "ca", "sa", "me", "af", "au"})  # as regions begin that have one
MB_OF_GB: Final = 1000  # derived
SLIP: Final = 8  # assumed: times the largest card's memory; no card that is to come is beyond it
KIB: Final = 1024  # derived: GiB of a TiB
ALIKE: Final = 0.7  # assumed: of two names' letters, as difflib counts them
IN_PLACE: Final = 0.5  # assumed: the same where both begin with one continent
SHORT: Final = 3  # derived: letters of aws, gcp and oci
CARDS_PLACE: Final[KeyPath] = ("cards",)
ONE_OF_THREE: Final = 0.6  # derived: one slip in a name of three letters, or two of them the other way round, leaves 0.67


def check_names(where: Where, catalog: Catalog, offers: tuple[Offer, ...], *, first: Collection[str] = ()) -> None:
    """A name that no offer of the whole market has is a slip of the pen, not a wish that nothing fulfils: RequestError.

    `first`: names to tell before others, of those who can be rented from.
    """
    for key, known in known_names(catalog, offers).items() if where.providers or where.regions else ():
        for place, name in enumerate(getattr(where, key)):
            if not any(matches(each, (name,)) for each in known):
                meant = {offer.region for offer in offers if offer.provider in where.providers} if key == "regions" else set()
                raise _unknown(name, meant or known, what=key[:-1], place=("where", key, place), first=first)
    for place, name in enumerate(where.instance_types):
        if not any(name == offer.instance_type for offer in offers):
            known = {offer.instance_type for offer in offers if not where.providers or offer.provider in where.providers}
            raise _unknown(name, known, what="instance type", place=("where", "instance_types", place))


def _some(names: list[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f", and {more:,} more (`rentune catalog list`)" if more > 0 else "")


def _unknown(name: str, known: set[str], *, what: str, place: KeyPath, first: Collection[str] = ()) -> RequestError:
    close = _close_regions(name, known) if what == "region" else close_names(name, known)
    hint = (
        f"did you mean {either(close)}?"
        if close
        else f"known are {_some(sorted(known, key=lambda each: (each not in first, each)))}"
    )
    said = shortened(name) or "''"
    return RequestError(f"no offer has the {what} {said}", hint=hint, place=place)


def _close_regions(name: str, known: set[str]) -> list[str]:
    """Those that lie in a city or a country, that begin alike, or that are spelled alike."""
    from catalogs.places import regions_at  # only for a name that is wrong: it costs start-up time

    there = [region for region in regions_at(name) if any(matches(each, (region,)) for each in known)]
    return there or alike_patterns(name, known) or close_names(name, known)


def check_cards(where: Where, catalog: Catalog) -> None:
    """Raise RequestError for a name that the GPU table does not know."""
    for place, name in enumerate(where.gpus):
        if name.lower() == HERE:
            continue
        try:
            catalog.gpu(name)
        except GpuUnknown as error:
            raise RequestError(error.message, hint=error.hint, place=("where", "gpus", place)) from None


def cards_of(number: int, said: float | str, catalog: Catalog) -> Cards:
    """Cards of so many GiB each, or of that name. Raises RequestError for a name that nobody knows, and for cards of a maker
    whose cards the trainer does not run on.
    """
    if not isinstance(said, str):
        return Cards(number, said)
    try:
        gpu = catalog.gpu(said).gpu
    except GpuUnknown as error:
        hint = f"{error.hint}; or their memory, such as --gpus {number}x24GB"
        raise RequestError(error.message, hint=hint, place=CARDS_PLACE) from None
    if gpu.vendor != BOX_VENDOR:
        raise RequestError(
            f"the {gpu.name} is no card of NVIDIA's, and nothing here trains on another maker's",
            hint=f'what it would hold is said by: rentune estimate --gpu "{gpu.name}" --num-gpus {number}',
            place=CARDS_PLACE,
        )
    if gpu.shares_ram and number > 1:
        raise RequestError(
            f"{number} {gpu.name} are {number} machines, not cards of one: a job runs on one",
            hint=f'--gpus "{gpu.name}" says in which ways one of them holds the job',
            place=CARDS_PLACE,
        )
    return Cards(number, gpu.memory_gib, gpu.name)


def check_memory(memory_gib: float | None, catalog: Catalog, *, said: str, number: int | None = None) -> None:
    """Raise RequestError for less memory on a card than half of what the smallest has, or for many times what the largest has:
    a slip of the unit. `said`: where; `number`: of how many cards, where that is said beside it.
    """
    times = "" if number is None else f"{number}x"
    sizes_gib = [gpu.memory_gib for gpu in catalog.gpus.values()]
    smallest_gib, largest_gib = min(sizes_gib), max(sizes_gib)
    if memory_gib is None or smallest_gib / 2 <= memory_gib <= SLIP * largest_gib:
        return
    if memory_gib > largest_gib:
        named = next((name for name in catalog.gpus if f"{memory_gib:g}" in name.split()), None)
        raise RequestError(
            f"{said} says {memory_gib:,g} GB on a card, and the largest card has {largest_gib:g} GB",
            hint=f"did you mean {times}{memory_gib / KIB:g}GB?" if named is None else _by_name(named, number),
            place=("where", "gpu_budget"),
        )
    in_mb = memory_gib * MB_OF_GB
    shown, meant_gib = (f"{memory_gib:g} GB", smallest_gib) if memory_gib >= 1 else (f"{in_mb:g} MB", in_mb)
    raise RequestError(
        f"{said} says {shown} on a card, and the smallest card has {smallest_gib:g} GB",
        hint=f"did you mean {times}{meant_gib if smallest_gib <= meant_gib <= largest_gib else smallest_gib:g}GB?",
        place=("where", "gpu_budget"),
    )


def _by_name(gpu: str, number: int | None) -> str:
    return f'a card by name is --gpu "{gpu}"' if number is None else f'did you mean "{number}x{gpu}"?'


def known_names(catalog: Catalog, offers: tuple[Offer, ...]) -> dict[str, set[str]]:
    """Names that a wish or a rule may use, by the key that holds them."""
    return {
        "providers": {offer.provider for offer in offers} | set(catalog.billing),
        "regions": {offer.region for offer in offers},
    }


# What people call a provider, and the catalog calls otherwise.
CALLED: Final[dict[str, str]] = {
    "amazon": "aws",
    "ec2": "aws",
    "google": "gcp",
    "gce": "gcp",
    "microsoft": "azure",
    "oracle": "oci",
    "datacrunch": "verda",
    "ovh": "ovhcloud",
    "lambdalabs": "lambda",
    "do": "digitalocean",
}


def close_names(name: str, known: Collection[str]) -> list[str]:
    """What may have been meant: another name of it, those that are spelled alike, or else those that lie on the continent that
    the first letters name.
    """
    from difflib import get_close_matches  # only for a name that is wrong: it costs start-up time

    called = {other: each for other, each in CALLED.items() if each in known}
    if meant := get_close_matches(name.lower(), called, n=1, cutoff=0.8):
        return [called[meant[0]]]
    letters = name.lower()[:LEAST_LETTERS]
    continent = sorted(each for each in known if letters in CONTINENTS and each.lower().startswith(letters))
    cutoff = IN_PLACE if continent else ONE_OF_THREE if len(name) <= SHORT else ALIKE
    alike = get_close_matches(name.lower(), continent or known, n=3, cutoff=cutoff)
    return alike or continent[:MAX_NAMES]


def whose_regions(where: Where, catalog: Catalog) -> str | None:
    """Whose regions they are, where none of them is one of the named providers'."""
    if not where.providers:
        return None
    owners = sorted({offer.provider for offer in catalog.offers if matches(offer.region, where.regions)})
    others = owners and not set(owners) & set(where.providers)
    return f"{either(where.regions)} belongs to {', '.join(owners[:MAX_NAMES])}" if others else None


def how_to_plan_with(provider: str) -> str:
    """What to type where the catalog has no offer of a provider that is known."""
    if provider == HOST:
        return "name your machine (--host user@address)"
    return "import prices that you see there (rentune catalog import FILE.csv), or rent there yourself (--host user@address)"


def either(names: Iterable[str]) -> str:
    """The names, one of which is meant: "A or B"."""
    return " or ".join(names)
