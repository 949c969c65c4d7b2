"""The one seam between the walk and whatever rents: a cloud through Pulumi, the local box, a host that exists.

Whoever drives a run by it does not know which kind it is; what looks into an account, without a run, asks the cloud's own
module. Each probe answers yes, no or *unknown*, and unknown
never destroys, restarts or bills.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from catalogs.hardware import Offer
from catalogs.user_file import printable
from provision.errors import RentuneError
from provision.home.places import is_run_id
from provision.redact import redact
from provision.words import seconds_words

InCharge = Callable[[], None]  # raises ControlLost once another machine has the run


def unshared() -> None:
    """Nobody else can have it."""


class Answer(StrEnum):
    """What a probe can say."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # asked, and could not see


CLOCKS_AGREE_S: Final = 2.0  # assumed: less than a whole second and the way there can't be told from a clock that is right
DEADLINE_GRACE_S: Final = 300.0  # assumed: so long after its deadline a controller that lives has ended its box, or is at it
CLOCK_ERROR_S: Final = 300.0  # assumed: by how much two clocks that nobody has set may differ
SET_CLOCK: Final = "Set the clock: sudo timedatectl set-ntp true"
MACHINE: Final = "instance"  # of Resource.kind
VOLUME: Final = "volume"  # likewise, of a disk that is to outlive its machine
TEXTS: Final = (
    "region",
    "run_id",
    "owner",
    "installation",
    "name",
    "zone",
    "sold_as",
)  # of a Resource, from its tags or beside them


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """A thing at a provider that carries our tag. Whoever may write there wrote the tags: what can't be printed of them stands
    here by its number. The id is the provider's own, and shown as `words` has it.
    """

    kind: str  # instance, key_pair, security_group, process, folder, …
    id: str
    region: str = ""
    run_id: str | None = None  # from its tags
    owner: str | None = None
    installation: str | None = None  # from its tags: the state folder that it was rented from
    deadline_at_s: float | None = None  # from its tags, wall clock
    bills: bool = True
    size_gib: int | None = None  # of a disk
    sold_as: str | None = None  # what its provider calls the kind of a disk, or of a machine's own; None = one, or not told
    name: str | None = None  # of a volume that is kept: what its user calls it
    zone: str | None = None  # of a volume: where a machine must be to use it, where that is less than the region
    in_use: bool = False  # of a volume: some machine has it
    usd_per_hour: Decimal | None = None  # of a machine, from its tags: what was agreed to
    since_s: float | None = None  # when its provider made it, wall clock, by the provider's own word
    runs: Answer = Answer.UNKNOWN  # of a machine: whether it has power; no = it is off, and there
    off_since_s: float | None = None  # of one that is off, wall clock, by the provider's own word; None = it tells none
    off_gib: int | None = None  # of a machine: its own disks, as far as they are billed while it is off; None = not known

    def __post_init__(self) -> None:
        for field in TEXTS:
            text = getattr(self, field)
            if text and not text.isprintable():
                msgspec.structs.force_setattr(self, field, printable(text))
        if not self.id.isascii():  # half a character can be printed nowhere, nor written as JSON
            msgspec.structs.force_setattr(self, "id", self.id.encode(errors="backslashreplace").decode())

    @property
    def words(self) -> str:
        """What it is, for a sentence."""
        return f"{self.kind} {printable(self.id)}"

    @property
    def bills_as_box(self) -> bool:
        """Whether it is a part of a box's bill: a volume that is to outlive one has a bill of its own."""
        return self.bills and self.name is None

    @property
    def names_run(self) -> bool:
        """Whether its tag names what can be a run: else no command of ours can end it by that."""
        return is_run_id(self.run_id)


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that can be reached over SSH, and the only host keys that are accepted from it."""

    run_id: str
    provider: str
    host: str
    port: int
    user: str
    host_key: str  # "ssh-ed25519 AAAA…", known before the first connection
    coming_host_key: str | None = None  # the one that it is about to take: until it is seen to have, either is accepted
    folder: str  # absolute path on the box; everything of ours lies below it
    python: str | None = None  # an interpreter whose installed stack has the lock's hash; None = build one
    cache: str | None = None  # folder on the box that outlives the run (stacks, converted bases); None = below `folder`
    stacks: str | None = None  # folder on the box for environments that outlive the run; None = below `cache`
    shares_files: bool = False  # True = the controller's files are there under their own paths: link, never copy
    replace_host_key: bool = False  # the key travelled in user data: swap it over the first pinned connection
    ours: bool = True  # False = a machine that is cleaned, never destroyed or powered off
    resources: tuple[Resource, ...] = ()


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """Of all that carries a run's tag, what one home has ordered: the most that it may end once another machine has the run."""

    installation: str  # of that home
    ids: frozenset[str] = frozenset()  # what its order is known to have brought
    theirs: frozenset[str] = frozenset()  # by id, what the other machine has in its books, whoever ordered it

    def has(self, resource: Resource) -> bool:
        """By its tag; what carries no home's is known by its id alone. Where ids are names, one may have been given twice."""
        by_tag = resource.installation == self.installation
        by_id = resource.installation is None and resource.id in self.ids
        return (by_tag or by_id) and resource.id not in self.theirs


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What is enough to find a run at its provider, and to end it."""

    run_id: str
    provider: str = ""  # who rented it out
    region: str = ""  # where the box is or will be; empty = not known any more
    folder: Path  # the run directory at home; keys and engine state live below it
    opened_in: Path | None = None  # the same where the run was opened; another one where it was taken over from there
    user_at_host: str | None = None  # for a host that exists
    host_key: str | None = None  # of that host, as the user pinned it ("ssh-ed25519 AAAA…" or "SHA256:…")
    volumes: frozenset[str] | None = (
        None  # by id, those of its own that stay: a further one is blank; None = whichever there are
    )
    filled: frozenset[str] | None = (
        None  # by id, those of earlier attempts, where the last one has put something on one as well
    )
    own: Own | None = None  # the part of it that is to end; None = all of it
    account: str | None = None  # whose it was rented in, as `Provisioner.account` named it then; None = not known
    known: frozenset[str] = frozenset()  # by id, what is known to have been there, and that nobody has seen gone
    gone_by_s: float | None = None  # wall clock: by then its provider has surely ended its box; None = it may bill for ever


class Launch(Claim, frozen=True, kw_only=True):
    """What a provisioner is told beside that for the box which it is to create."""

    owner: str
    public_key: str  # of the per-run client key
    deadline_at_s: float  # wall clock: nothing of this run lives past it
    tags: dict[str, str] = {}
    allow_from: tuple[str, ...] = ()  # CIDRs that may reach SSH; empty = the caller's address only
    disk_gib: int = 0
    ram_gib: int = 0  # at least, of a machine whose RAM nobody states; 0 = its seller does
    volume_name: str | None = None  # of a disk that outlives it: used where there is one of that name, else made
    volume_gib: int = 0  # of that disk, if it is made
    keep_environment: bool = True  # on a host of the user's: the trainer's packages outlive the run
    full_zones: tuple[str, ...] = ()  # of the region, where this offer was refused to this run


class ResourceEnd(msgspec.Struct, frozen=True, kw_only=True):
    resource: Resource
    gone: Answer
    at_s: float
    before: bool = False  # it had gone before anybody here looked, so `at_s` is only when that was seen


class Teardown(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on an end. `orphaned` and `unknown` reach the exit code."""

    run_id: str
    verdict: Literal["destroyed", "cleaned", "orphaned", "unknown"]
    resources: tuple[ResourceEnd, ...]
    message: str  # without secrets, whoever wrote it: it goes to ledger, receipt and terminal
    command: str | None = None  # what to type to finish it, when the verdict is orphaned or unknown; None = nothing ends it
    kept: tuple[Resource, ...] = ()  # what stays because the user wanted it, and bills on
    ahead_s: float | None = None  # of its provider's clock, by which the ends' moments are told, this machine's

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "message", redact(self.message))

    @property
    def clean(self) -> bool:
        return self.verdict in ("destroyed", "cleaned")

    @classmethod
    def destroyed(cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = ()) -> Teardown:
        """Somebody looked, and nothing is there."""
        return cls(run_id=run_id, verdict="destroyed", resources=resources, message=message)

    @classmethod
    def orphaned(
        cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = (), command: str | None = None
    ) -> Teardown:
        """Something was seen to be there; `command` finishes it, where `rentune down RUN` does not."""
        return cls(run_id=run_id, verdict="orphaned", resources=resources, message=message, command=command or _down(run_id))

    @classmethod
    def unknown(cls, run_id: str, message: str, *, resources: tuple[ResourceEnd, ...] = ()) -> Teardown:
        """Nobody could look."""
        return cls(run_id=run_id, verdict="unknown", resources=resources, message=message, command=_down(run_id))


def _down(run_id: str) -> str | None:
    """Of what can be no run's id there is no command; nor can its text stand in one."""
    return f"rentune down {run_id}" if is_run_id(run_id) else None


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """What carries our tag at a provider. `complete` says whether everything could be seen."""

    resources: tuple[Resource, ...]
    complete: Answer
    message: str = ""  # without secrets
    kept: tuple[Resource, ...] = ()  # beside those: what its user wanted to outlive its box
    ahead_s: float | None = None  # of the provider's clock this machine's, by the answers themselves; None = they told no time
    asked: bool = True  # False = nobody was: there are no credentials, and no later try of this process has any
    account: str | None = None  # whose it was looked in, as the provider names it; None = nobody knows, or no id is told

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "message", redact(self.message))

    @property
    def nothing(self) -> bool:
        """Whether everything could be seen, and nothing was there."""
        return self.complete is Answer.YES and not self.resources

    def lacks(self, box: Box) -> bool:
        """Whether everything could be seen, and that box was not there.

        Keys, rules and folders outlive a machine of ours, which is what bills; a machine that is not ours bills nothing, and
        all that it has of a run is what the box was made of.
        """
        if self.complete is not Answer.YES:
            return False
        if box.ours:
            return not any(resource.bills for resource in self.resources)
        listed = {(resource.kind, resource.id) for resource in self.resources}
        return not any((resource.kind, resource.id) in listed for resource in box.resources)


def clock_trouble(ahead_s: float | None) -> str | None:
    """That this machine's clock is off by more than clocks are, in a sentence; None where it is not, or no provider told."""
    if ahead_s is None or abs(ahead_s) <= CLOCK_ERROR_S:
        return None
    return f"This machine's clock is {seconds_words(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} the providers'."


def seen(asked: Callable[[], Owned]) -> Owned:
    """What a provider lists. Asking that fails, in whatever way, has seen nothing: unknown."""
    try:
        return asked()
    except RentuneError as error:
        return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
    except Exception as error:  # noqa: BLE001 - of a provider's SDK or of ours: neither says that nothing is there
        message = f"it could not be asked ({type(error).__name__}: {error})"
        return Owned(resources=(), complete=Answer.UNKNOWN, message=message)


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """One of the things that end a box which nobody comes back to, as it was read back from where it lies."""

    place: Literal["provider", "box", "home"]
    name: str
    there: Answer
    says: str  # without secrets
    strikes_at_s: float | None = None  # wall clock; None = at no moment that it knows

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "says", redact(self.says))


class Provisioner(Protocol):
    """What every kind does. `destroy` reports failure as a value; it raises only for faults of the program."""

    name: str
    list_lag_s: float  # so much later at the latest `owned` shows what there is
    worst_teardown_s: float  # so long at the most `destroy` takes
    look: str  # shell that a box of this kind tells its own layers by (provision/aboard/layers.py); empty = `layers` tells all

    def account(self) -> str | None:
        """Whose account is asked and rented in, by its provider's id of it or a mark of the key, never a secret.

        None where nobody can tell, or there is none.
        """
        ...

    def up(self, offer: Offer, launch: Launch) -> Box:
        """Create the machine; returns when it runs (not when it answers). Raises ProvisionError, with what it left; NotOrdered
        where nothing was asked for.
        """
        ...

    def destroy(self, claim: Claim, in_charge: InCharge = unshared) -> Teardown:
        """End everything of this run, asked by tag as well as by state. Safe to call twice, and when `up` never ran.

        `in_charge` is asked before each act, and what it raises is let through: what carries the tag by then may be another
        machine's.
        """
        ...

    def owned(self, claim: Claim | None = None) -> Owned:
        """All resources with our tag, or those of one run."""
        ...

    def console(self, claim: Claim) -> str:
        """The machine's boot log, as far as the provider shows one; empty when it shows none."""
        ...

    def readmit(self, claim: Claim) -> str | None:
        """Let this machine's present address in, and no other, where the provider has a gate before the box: the address, else
        None. Raises ProvisionError when the provider can't be asked.
        """
        ...

    def rearm(self, claim: Claim, *, deadline_at_s: float) -> None:
        """Set going again what ends the box's processes at the deadline, where a reboot ended that; nothing where it goes on,
        or survives one. Raises RentuneError when it can't be.
        """
        ...

    def layers(self, claim: Claim) -> tuple[Layer, ...]:
        """What ends the run's box without us, beside what `look` tells. Changes nothing; what can't be seen is unknown."""
        ...
