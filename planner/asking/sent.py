"""What goes from this machine to a rented one before anything can be loaded there."""

from __future__ import annotations

import msgspec


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of files here that a machine elsewhere must have. One that shares our files is sent nothing."""

    base_bytes: int | None = None  # of a model folder or a GGUF file; None = the machine fetches the base from the hub
    rest_bytes: int = 0  # rows, an earlier adapter, a template
    packed: bool = False  # the base is a GGUF file, which is made into plain weights there


NOTHING = Sent()
