"""What a probe can say: yes, no, or that it could not see."""

from __future__ import annotations

from enum import StrEnum


class Answer(StrEnum):
    """What a probe can say."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # asked, and could not see
