"""A thing at a provider that carries our tag."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from catalogs.user_file import printable
from provision.home.places import is_run_id
from provision.seam.answer import Answer

MACHINE: Final = "instance"  # of Resource.kind
VOLUME: Final = "volume"  # likewise, of a disk that is to outlive its machine
# Of a Resource, from its tags or beside them.
PRINTED: Final = ("region", "run_id", "owner", "installation", "name", "zone", "sold_as")


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
        for field in PRINTED:
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
