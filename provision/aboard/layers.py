"""What a box itself says of the layers that end it: asked with a script over SSH, which changes nothing.

Such a script prints a line a layer, its four fields parted by bars: name | yes, no or unknown | seconds until it strikes, or
nothing | what it says. Seconds, because the clock of a box may be another than ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from provision.errors import RentuneError
from provision.seam import Answer, Layer

if TYPE_CHECKING:
    from provision.ssh import Shell

ASK_S: Final = 60.0  # assumed: such a script needs a second
SCRIPT: Final = "its own deadline"  # what is unknown where the box says nothing


def read_layers(shell: Shell, look: str, *, now_s: float) -> tuple[Layer, ...]:
    """Ask the box. One that gives no answer, or none that can be read, is unknown."""
    try:
        said = shell.script(look, {}, timeout_s=ASK_S).out
    except RentuneError as error:
        return (unseen(str(error)),)
    layers = [_layer(line.split("|"), now_s) for line in said.splitlines()]
    told = tuple(layer for layer in layers if layer is not None)
    return told or (unseen("The box said nothing that can be read."),)


def unseen(why: str) -> Layer:
    """What a box that can't be asked amounts to."""
    return Layer(place="box", name=SCRIPT, there=Answer.UNKNOWN, says=why)


def _layer(fields: list[str], now_s: float) -> Layer | None:
    try:
        name, there, left_s, says = fields
        strikes_at_s = now_s + float(left_s) if left_s else None
        return Layer(place="box", name=name, there=Answer(there), says=says, strikes_at_s=strikes_at_s)
    except ValueError:  # what somebody's login prints, for one
        return None
