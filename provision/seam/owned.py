"""What a provider lists of ours, and whether it showed everything."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from provision.errors import RentuneError
from provision.redact import redact
from provision.seam.answer import Answer
from provision.seam.box import Box
from provision.seam.resource import Resource


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


def seen(asked: Callable[[], Owned]) -> Owned:
    """What a provider lists. Asking that fails, in whatever way, has seen nothing: unknown."""
    try:
        return asked()
    except RentuneError as error:
        return Owned(resources=(), complete=Answer.UNKNOWN, message=str(error))
    except Exception as error:  # noqa: BLE001 - of a provider's SDK or of ours: neither says that nothing is there
        message = f"it could not be asked ({type(error).__name__}: {error})"
        return Owned(resources=(), complete=Answer.UNKNOWN, message=message)
