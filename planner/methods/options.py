"""`method_options` as the formulas read them. Raises CaseError for words and numbers that the method does not take."""

from __future__ import annotations

from collections.abc import Iterable

from planner.refusals import CaseError
from remote.contract import Strategy


def known_only(strategy: Strategy, known: Iterable[str]) -> None:
    """Refuse options that the method does not have."""
    known = sorted(known)
    for name in strategy.method_options:
        if name not in known:
            hint = f"it takes {', '.join(known)}" if known else "leave it out: the method takes none"
            raise _refusal(f"method {strategy.method} has no option {name}", hint)


def count(strategy: Strategy, name: str, default: int) -> int:
    """A number of at least 1."""
    found = strategy.method_options.get(name)
    if found is None:
        return default
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise _refusal(f"{name} must be a whole number from 1 on, not {found!r}", f"such as {default}")
    return found


def flag(strategy: Strategy, name: str) -> bool:
    """True or false; false where nothing is said."""
    found = strategy.method_options.get(name, False)
    if not isinstance(found, bool):
        raise _refusal(f"{name} must be true or false, not {found!r}", f"{name} true")
    return found


def word(strategy: Strategy, name: str, choices: tuple[str, ...]) -> str:
    """One of `choices`, the first where nothing is said."""
    found = strategy.method_options.get(name, choices[0])
    if found not in choices:
        raise _refusal(f"{name} can't be {found!r}", f"it is one of {', '.join(choices)}")
    return str(found)


def words(strategy: Strategy, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """A list of words that is not empty."""
    found = strategy.method_options.get(name)
    if found is None:
        return default
    if not isinstance(found, list | tuple) or not found or not all(isinstance(each, str) for each in found):
        raise _refusal(f"{name} must be a list of words, not {found!r}", f"such as {list(default)}")
    return tuple(found)


def _refusal(sentence: str, hint: str) -> CaseError:
    return CaseError("method_options", sentence, hint)
