"""What a cloud's refusal rules out, read from its own words: one table a cloud, the first row that matches wins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from provision.errors import Declined, Reason, Scope


class Refusal(NamedTuple):
    """A row: what the cloud says, and what that means."""

    said: str  # a regular expression, found anywhere in its answer, whatever the case
    reason: Reason
    scope: Scope  # of a zone, where the group `zone` of `said` finds its name
    words: str  # our sentence, without its end; groups of `said` may stand in it: \g<limit>


def read_refusal(rows: Iterable[Refusal], error: Declined, *, cloud: str) -> Declined:
    """The same refusal with what it means. What no row knows is told word for word, and rules out as little as can be."""
    message = str(error)
    for row in rows:
        if found := re.search(row.said, message, re.IGNORECASE):
            message, zone = f"{cloud} declined: {found.expand(row.words)}.", found.groupdict().get("zone")
            return Declined(message, reason=row.reason, scope=row.scope, zone=zone)
    return error
