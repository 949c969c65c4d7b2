"""What peft refuses to hang on these linears, by the values of options: the reason, and the nearest value that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd
from typing import Any, Final

from planner.methods.method import Adapter, Dials, Kind, Places
from planner.refusals import CaseError
from remote.contract import CAST_INPUT, Strategy


def require_possible(adapter: Adapter, strategy: Strategy, places: Places, dials: Dials) -> None:
    """Raise CaseError for a value that peft 0.21 refuses (`tuners/*/layer.py`, `config.py`)."""
    for name, default in adapter.options.items():
        if isinstance(default, int) and not isinstance(default, bool) and not _is_whole(dials[name]):
            raise _refusal(f"{name} must be a whole number, not {dials[name]!r}", name, default)
    if places and (check := LIMITS.get(adapter.kind)) is not None:
        check(strategy, places, dials)


def require_within(adapter: Adapter, strategy: Strategy, num_steps: int) -> None:
    """Raise CaseError for options that ask for another number of optimizer steps than the run makes."""
    if (check := LIMITS_OF_A_RUN.get(adapter.kind)) is not None:
        check(strategy, num_steps)


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
    first, last = _apart(strategy)
    total = strategy.method_options.get("total_step", first + last + 1)
    if total <= 0 or first >= total - last:
        words = f"adalora takes ranks away after step {first} and before the last {last}, and total_step {total} is no longer"
        raise _refusal(words, "total_step", max(1, first + last + 1))


def _apart(strategy: Strategy) -> tuple[int, int]:
    """The steps at the beginning and at the end in which AdaLoRA leaves the ranks alone."""
    return strategy.method_options.get("tinit", 0), strategy.method_options.get("tfinal", 0)


def _schedule_within(strategy: Strategy, num_steps: int) -> None:
    """What is said of the schedule, against the run: it may end before the run does, and then the ranks stay as they are."""
    said = strategy.method_options.get("total_step")
    if said is not None and said > num_steps:
        words = f"adalora's schedule has {said:,} steps (total_step), and the run makes {num_steps:,}: ranks would be left over"
        raise CaseError("method_options", words, "leave total_step out: the schedule is then as long as the run")
    first, last = _apart(strategy)
    if said is None and first + last >= num_steps:
        words = f"adalora takes ranks away after step {first} (tinit) and before the last {last} (tfinal)"
        hint = f"tinit and tfinal that add up to less than {num_steps:,}, or leave them out"
        raise CaseError("method_options", f"{words}, and the run makes {num_steps:,}", hint)


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


def _lora(strategy: Strategy, _places: Places, dials: Dials) -> None:
    """An input that is not cast meets an adapter of another dtype, unless there is an autocast over both."""
    casts = dials[CAST_INPUT]
    if not isinstance(casts, bool):
        words = f"{CAST_INPUT} must be true or false, not {casts!r}"
        raise CaseError("method_options", words, f'method_options {{"{CAST_INPUT}": false}}')
    if not casts and strategy.autocast == "none":
        words = f"{CAST_INPUT} false needs an autocast, under which input and adapter meet in its dtype"
        raise CaseError("method_options", words, f"autocast bfloat16, or leave {CAST_INPUT} out")


LIMITS: Final[Mapping[Kind, Callable[[Strategy, Places, Dials], None]]] = {
    "lora": _lora,
    "adalora": _adalora,
    "fourierft": _fourierft,
    "boft": _boft,
    "oft": _oft,
}
LIMITS_OF_A_RUN: Final[Mapping[Kind, Callable[[Strategy, int], None]]] = {"adalora": _schedule_within}
