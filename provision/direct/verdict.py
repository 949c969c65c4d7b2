"""What was there before an end, against what is there after it."""

from __future__ import annotations

from typing import Literal

from provision.seam import Answer, Resource, ResourceEnd, Teardown


def verdict(
    run_id: str,
    before: tuple[Resource, ...],
    after: tuple[Resource, ...],
    *,
    clean: Literal["destroyed", "cleaned"],
    message: str,
    at_s: float,
) -> Teardown:
    """Both lists were seen whole: what is still there is orphaned; if nothing is, the verdict is `clean`."""
    ends = tuple(
        ResourceEnd(resource=each, gone=Answer.NO if each in after else Answer.YES, at_s=at_s)
        for each in dict.fromkeys(before + after)
    )
    if not after:
        return Teardown(run_id=run_id, verdict=clean, resources=ends, message=message)
    left = ", ".join(each.words for each in after)
    return Teardown.orphaned(run_id, f"Still there: {left}.", resources=ends)


def unseen(run_id: str, why: str, before: tuple[Resource, ...] = (), *, at_s: float) -> Teardown:
    """Nobody could look: nothing is called gone."""
    ends = tuple(ResourceEnd(resource=each, gone=Answer.UNKNOWN, at_s=at_s) for each in before)
    return Teardown.unknown(run_id, why, resources=ends)
