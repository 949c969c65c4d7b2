"""Every failure this package raises. A message says what happened; `hint` says what to type.

RentuneError                 exit code (docs/exit-codes.md)
├── BadInput                 2   what was asked can't be understood
├── Refused                  2   understood, and declined: too dear, not runnable, no consent
│   ├── HubSilent            2   the hub did not say which commit of a base is to be trained
│   └── Held                 2   somebody has the run in hand, and nobody has said that it is to end
│       └── HeldElsewhere    2   another machine is in charge of it, and was heard of lately
├── MissingPart              2   a tool, an extra or a credential is not there
├── PapersLost               3   a run's directory is gone, and its box may go on billing
├── ProvisionError           1   the provider did not give us a box
│   ├── NoCredentials        1   nobody was asked: there are none
│   ├── NotOrdered           1   it could not be asked what it holds, so nothing was asked for
│   └── Declined             1   and why, and what else it will not give us either
├── ConnectionFailed         1   no answer within the deadline
│   └── WrongHostKey         2   somebody else answered; nothing was sent
├── TransferFailed           1   bytes differ, the box's disk is full, cut off
│   └── Spoilt               1   what lies on the box is not what it should be: asked again it is the same
├── HomeFailed               1   this machine can't take a file: its disk is full, or not ours to write
├── StoreFailed              1   object storage can't be asked, or says no
├── ControlLost              3   another machine has taken the run over: its box goes on, and not in our hands
│   └── OwnEnded             3   the same, and what this machine had ordered beside that was ended, or may still bill
├── EndUnseen                3   cut off while it was ending a run: the box may go on billing
├── BooksOpen              130   cut off once the box was gone, before the books were closed
├── ResultOnBox              3   trained, and not at home (of a user's host: perhaps): the box is left to its deadline
├── BoxLost                  1   the provider lists the box no more, before its deadline and not by us
│   └── LeaseEnded           1   the box has ended itself, as no renewal of its lease reached it
└── TrainingFailed           1   the trainer ended without a result
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

from catalogs.failure import Failure, KeyPath
from provision.redact import redact


class Exit(IntEnum):
    """Every exit code of ours (docs/exit-codes.md). `estimate --from` keeps those of the estimate contract."""

    OK = 0  # the command did its work; a run: trained and gone
    FAILED = 1  # a run: failed and gone
    REFUSED = 2  # bad input, or understood and declined
    STILL_BILLS = 3  # something of a run is still there, or nobody could see that it is gone
    UNSEEN = 4  # `doctor RUN`: nothing is missing that could be seen, and not all of it could
    IN_PART = 5  # a run: cut short by its deadline; what was trained until then is at home, and the box is gone
    IN_DOUBT = 6  # a run: trained and gone, and its result is no better than the base, or answers without end
    INTERRUPTED = 130  # Ctrl-C or SIGTERM; a run: stopped and gone
    UNREAD = 141  # nobody reads the output any more, as the shell tells a death by SIGPIPE; never of what acts on a run


class RentuneError(Failure):
    """Root of the tree: what a run met. Neither message nor hint holds a secret."""

    exit_code = Exit.FAILED

    def __init__(self, message: str, *, hint: str | None = None, place: KeyPath = ()) -> None:
        super().__init__(redact(message), hint=redact(hint) if hint is not None else None, place=place)

    @property
    def in_full(self) -> str:
        """What happened and what to do, in running text: what another program said may end without a full stop."""
        said = str(self)
        stop = "" if said.endswith((".", "!", "?", ":", "…")) else "."
        return said if self.hint is None else f"{said}{stop} {self.hint}"


class BadInput(RentuneError):
    exit_code = Exit.REFUSED


class Refused(RentuneError):
    exit_code = Exit.REFUSED


class HubSilent(Refused):
    pass


class Held(Refused):
    pass


class HeldElsewhere(Held):
    pass


class MissingPart(RentuneError):
    exit_code = Exit.REFUSED


class PapersLost(RentuneError):
    exit_code = Exit.STILL_BILLS


class ProvisionError(RentuneError):
    pass


class NoCredentials(ProvisionError):
    pass


class NotOrdered(ProvisionError):
    pass


class Reason(StrEnum):
    """Why an attempt came to nothing, as far as its provider or its box told."""

    CAPACITY = "capacity"  # no such machine is free
    QUOTA = "quota"  # the account may not have one more
    PRICE = "price"  # it costs more than was planned
    CREDENTIALS = "credentials"  # the provider does not know us
    PERMISSION = "permission"  # it knows us, and does not allow it
    HOST = "host"  # the machine came, and is no good
    LOST = "lost"  # the machine came, and was taken away
    LEASE = "lease"  # the machine ended itself, as no renewal of its lease reached it
    UNKNOWN = "unknown"  # it said something that stands in no table of ours


class Scope(StrEnum):
    """What a reason rules out: no further attempt is made there."""

    ZONE = "zone"  # this type, bought this way, in the zone that the provider named
    OFFER = "offer"  # the same in all of the region
    REGION = "region"
    INSTANCE_TYPE = "instance type"
    CLOUD = "cloud"


class Declined(ProvisionError):
    """`reason` and `scope` say what would be asked in vain from now on; `zone` which one, where that is the scope."""

    def __init__(self, message: str, *, reason: Reason, scope: Scope, zone: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.scope = scope
        self.zone = zone


class ConnectionFailed(RentuneError):
    pass


class WrongHostKey(ConnectionFailed):
    exit_code = Exit.REFUSED


class TransferFailed(RentuneError):
    pass


class Spoilt(TransferFailed):
    pass


class HomeFailed(RentuneError):
    pass


class StoreFailed(RentuneError):
    pass


class ResultOnBox(RentuneError):
    exit_code = Exit.STILL_BILLS


class BoxLost(RentuneError):
    pass


class LeaseEnded(BoxLost):
    pass


class ControlLost(RentuneError):
    exit_code = Exit.STILL_BILLS


class OwnEnded(ControlLost):
    """`bills`: whether what this machine has ordered may still be there."""

    def __init__(self, message: str, *, bills: bool, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.bills = bills


class EndUnseen(RentuneError):
    exit_code = Exit.STILL_BILLS


class BooksOpen(RentuneError):
    exit_code = Exit.INTERRUPTED


class TrainingFailed(RentuneError):
    pass
