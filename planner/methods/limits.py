"""What peft refuses to hang on these linears, by the values of options: the reason, and the nearest value that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd
from typing import Any, Final

from planner.methods.method import Adapter, Dials, Kind, Places
from planner.refusals import CaseError
from remote.contract import Strategy


def require_possible(adapter: Adapter, strategy: Strategy, places: Places, dials: Dials) -> None:
    """Raise CaseError for a value that peft 0.21 refuses (`tuners/*/layer.py`, `config.py`)."""
    for name, default in adapter.options.items():
        if isinstance(default, int) and not isinstance(default, bool) and not _is_whole(dials[name]):
            raise _refusal(f"{name} must be a whole number, not {dials[name]!r}", name, default)
    if places and (check := LIMITS.get(adapter.kind)) is not None:
        check(strategy, places, dials)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _refusal(sentence: str, name: str, nearest: int) -> CaseError:
    return CaseError("method_options", sentence, f'method_options {{"{name}": {nearest}}}')


SCHEDULE: Final = ("tinit", "tfinal", "total_step")  # steps of AdaLoRA's budget, by peft's names


def _adalora(strategy: Strategy, _places: Places, dials: Dials) -> None:
    """Its ranks go down, from `init_r` to `rank`, in the middle of the run."""
    start, kept = dials["init_r"], dials.rank
    if start <= kept:
        words = f"adalora starts with {start} ranks and keeps {kept}: it has none to take away"
        raise _refusal(words, "init_r", kept + 1)
    for name in SCHEDULE:
        if not _is_whole(strategy.method_options.get(name, 0)):
            raise _refusal(f"{name} must be a whole number, not {strategy.method_options[name]!r}", name, 1)
    first, last = (strategy.method_options.get(name, 0) for name in ("tinit", "tfinal"))
    total = strategy.method_options.get("total_step", first + last + 1)
    if total <= 0 or first >= total - last:
        words = f"adalora takes ranks away after step {first} and before the last {last}, and total_step {total} is no longer"
        raise _refusal(words, "total_step", max(1, first + last + 1))


def _fourierft(_strategy: Strategy, places: Places, dials: Dials) -> None:
    """No more coefficients than the smallest update has entries."""
    most = min(linear.num_weights for linear, _ in places)
    said = dials["n_frequency"]
    if not 1 <= said <= most:
        raise _refusal(
            f"n_frequency lies between 1 and {most:,}, the smallest matrix, not {said:,}",
            "n_frequency",
            most if said > most else 1,
        )


def _boft(_strategy: Strategy, places: Places, dials: Dials) -> None:
    """Blocks that the features coming into every linear can be cut into."""
    name = "boft_block_num" if dials["boft_block_num"] else "boft_block_size"
    common = gcd(*(linear.in_features for linear, _ in places))
    if dials[name] < 1 or common % dials[name]:
        nearest = min((n for n in range(1, common + 1) if common % n == 0), key=lambda n: abs(n - dials[name]))
        words = f"{name} {dials[name]} does not divide the features that come into every linear"
        raise _refusal(words, name, nearest)


def _oft(strategy: Strategy, _places: Places, dials: Dials) -> None:
    """Of widths that do not divide the features, peft itself takes the nearest; there must be one."""
    if strategy.rank is None and dials["oft_block_size"] < 1:
        raise _refusal(f"oft_block_size must be 1 at least, not {dials['oft_block_size']}", "oft_block_size", 1)


LIMITS: Final[Mapping[Kind, Callable[[Strategy, Places, Dials], None]]] = {
    "adalora": _adalora,
    "fourierft": _fourierft,
    "boft": _boft,
    "oft": _oft,
}
