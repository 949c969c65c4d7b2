"""Whether the figures and names of a Request make sense, alone and together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from operator import attrgetter
from typing import Final

from catalogs.user_file import as_said
from planner.asking.bounds import REQUEST_BOUNDS, Bounds, complaint
from planner.asking.request import JOB_PLACES, OUR_TAGS, WIDEST_PREFIX, DataAsked, Request, RequestError
from planner.nearest import nearest
from remote.contract import KNOWN_KEYS

TAKEN_TAGS: Final[Mapping[str, str]] = {OUR_TAGS: "one of ours", "aws:": "one of AWS's own"}
LONGEST_TAG: Final = 63  # derived: characters of a label at Hetzner; AWS takes 128 in a key and 256 in a value
EXAMPLES: Final[Mapping[str, str]] = {  # what to type instead; without an example the default is a good one
    "global_batch_size": "16",
    "top": "5",
    "loop.epochs": "3",
    "data.num_examples": "1000",
    "data.mean_tokens": "512",
    "where.gpu_memory_gib": "24GB",
    "where.num_gpus": "1",
    "where.power_usd_per_kwh": "0.30",
    "budget.max_usd": "5",
    "budget.max_hours": "12",
    "budget.lease_hours": "2h",
    "purpose.imbalance": "20",
}
VOLUME_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}[a-z0-9]")  # what the names and tags of every cloud can hold
# Derived: a machine is waited for 10 minutes after it runs (provision/clouds/programs), and five renewals may then be missed.
LEAST_LEASE_HOURS: Final = 0.25
MAX_LAYER: Final = 100_000  # assumed: far beyond what any model has


def checked(request: Request) -> Request:
    """`request` itself, when its figures make sense alone and together; a `RequestError` naming the first that does not."""
    for field, bounds in REQUEST_BOUNDS.items():
        _check_number(request, field, bounds)
    if request.budget.lease_hours is not None:
        require_lease(request.budget.lease_hours)
    _check_data(request.data)
    _check_batch(request)
    for network in request.where.allow_from:
        _check_network(network)
    _check_layers(request.loop.layers)
    if not request.model.strip():
        raise RequestError("the model has no name", hint="--model 7b", place=("model",))
    if request.revision is not None and not request.revision.strip():
        raise RequestError("the revision has no name", hint="main, or leave it out", place=("revision",))
    for key, value in request.tags.items():
        _check_tag(key, value)
    _check_volume_name(request.keep.volume_name)
    if request.keep.adapter is not None and not request.keep.adapter.strip():
        raise RequestError("keep.adapter names no folder", hint="leave adapter out", place=("keep", "adapter"))
    return request


def _check_layers(layers: tuple[int, ...] | None) -> None:
    place, hint = ("loop", "layers"), "layers: [0, 1, 2]"
    if layers == ():
        raise RequestError("layers names no block", hint=f"{hint}, or leave it out", place=place)
    if any(not 0 <= layer <= MAX_LAYER for layer in layers or ()):
        raise RequestError("layers are counted from 0", hint=hint, place=place)


def _check_number(request: Request, field: str, bounds: Bounds) -> None:
    value = attrgetter(field)(request)
    if value is None or bounds.admit(value):
        return
    place = JOB_PLACES.get(field, tuple(field.split(".")))
    hint = f"such as {place[-1]} {EXAMPLES[field]}" if field in EXAMPLES else f"leave {place[-1]} out"
    raise RequestError(complaint(place[-1], value, bounds), hint=hint, place=place)


def require_lease(hours: float) -> None:
    """Raises RequestError for one that a run may lose although somebody is there."""
    if hours < LEAST_LEASE_HOURS:
        minutes, least = hours * 60, LEAST_LEASE_HOURS * 60
        number, unit = (minutes, "minute") if minutes >= 1 else (60 * minutes, "second")
        said = f"{number:.3g} {unit}{'s' * (number != 1)}"
        raise RequestError(
            f"a lease of {said} may end while its box still boots, or over a line that is cut for a moment",
            hint=f"{least:g}m at least",
            place=("budget", "lease"),
        )


def _check_data(data: DataAsked) -> None:
    if data.max_tokens < data.mean_tokens:
        raise RequestError(
            f"the longest example ({data.max_tokens} tokens) is shorter than the mean ({data.mean_tokens:g})",
            hint="raise max_tokens or lower mean_tokens",
            place=("data", "max_tokens"),
        )
    for name, column in data.reading.columns.items():
        require_name_of_rows(name, column)


def require_name_of_rows(name: str, column: str) -> None:
    """Raises RequestError for a name that rows are not read by, and says where the two were written the wrong way round."""
    if name in KNOWN_KEYS:
        return
    hint = nearest(name, sorted(KNOWN_KEYS))
    if column in KNOWN_KEYS:
        hint = f'the name that rows are read by comes first, "{column}", then the column, "{name}"'
    raise RequestError(f'rows are not read by "{name}"', hint=hint, place=("data", "columns", name))


def _check_batch(request: Request) -> None:
    """A step's sequences are those of a pass x the passes x the GPUs: what was said of the three must make up the whole."""
    whole, num_gpus = request.global_batch_size, request.where.num_gpus
    if whole is None or batch_comes_out(request, num_gpus):
        return
    micro, passes = (request.training.get(key) for key in IN_A_STEP)
    parts = ((micro, "sequence", ""), (passes, "pass", "es"), (num_gpus, "GPU", ""))
    said = [(number, word, more or "s") for number, word, more in parts if number is not None]
    product = prod(number for number, _, _ in said)
    factors = " x ".join(f"{number} {word}{more * (number != 1)}" for number, word, more in said)
    on_more = f"--num-gpus {whole // product}, or " if whole % product == 0 and num_gpus is None else ""
    raise RequestError(
        f"{factors} make {product} a step, not {whole}",
        hint=f"{on_more}leave one of them out",
        place=("training", "global_batch_size"),
    )


IN_A_STEP: Final = ("micro_batch_size", "gradient_accumulation_steps")


def batch_comes_out(request: Request, num_gpus: int | None) -> bool:
    """Whether so many GPUs (None = one at least) take the sequences of a step as they were said, no more and no fewer."""
    whole, said = request.global_batch_size, [request.training.get(key) for key in IN_A_STEP]
    if whole is None:
        return True
    product = prod(number for number in (*said, num_gpus) if number is not None)
    return product == whole or (None in said and whole % product == 0)


def _check_network(text: str) -> None:
    """Only a part of the world may reach SSH on a box. Raises RequestError."""
    import ipaddress  # only where --allow-from was said

    place = ("where", "allow_from")
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise RequestError(f'"{text}" is no CIDR', hint="such as 203.0.113.7/32", place=place) from None
    widest = WIDEST_PREFIX[network.version]
    if network.prefixlen < widest:
        raise RequestError(
            f"{text} would open SSH on the box to {network.num_addresses:,} addresses",
            hint=f"at most a /{widest}; leave it out, and only your own address may",
            place=place,
        )


def _check_tag(key: str, value: str) -> None:
    """What any cloud would refuse once the run is open, and what begins like ours, by which a box is found, priced and ended.

    Raises RequestError.
    """
    place = ("tags", key)
    if not key.strip():
        raise RequestError("a tag has no key", hint="--tag team=search", place=("tags",))
    for prefix, whose in TAKEN_TAGS.items():
        if key.lower().startswith(prefix):
            raise RequestError(
                f"the tag {as_said(key)} is {whose}", hint=f"a key that does not begin with {prefix}", place=place
            )
    for side, text in (("key", key), ("value", value)):
        if len(text) > LONGEST_TAG:
            hint = f"at most {LONGEST_TAG}: so many every cloud takes"
            raise RequestError(f"the {side} of the tag {as_said(key)} has {len(text)} characters", hint=hint, place=place)
        if odd := next((letter for letter in text if not letter.isprintable()), None):
            message = f"the {side} of the tag {as_said(key)} holds {odd!r}, which no cloud takes"
            raise RequestError(message, hint="letters, digits and spaces", place=place)


def _check_volume_name(name: str | None) -> None:
    if name is not None and not VOLUME_NAME.fullmatch(name):
        raise RequestError(
            f"{as_said(name)} is no name for a volume",
            hint="2 to 32 small letters, digits and hyphens, such as models",
            place=("keep", "volume_name"),
        )
