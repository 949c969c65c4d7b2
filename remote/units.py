"""Units in which sizes and rates are said."""

from __future__ import annotations

from typing import Final

MIB: Final = 2**20
GIB: Final = 2**30
GB: Final = 1e9
