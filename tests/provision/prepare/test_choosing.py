"""What `run` asks before anything is rented."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from provision.errors import Refused
from provision.prepare.choosing import KeyQuestion, compiler_words, require_price_of_today
from remote.contract import Kernels
from tests.planner.builders import make_offer, make_plan
from tests.provision.plans import tiny_plan


@pytest.mark.parametrize(
    ("given", "answer", "shown", "right", "times"),
    [
        ("SHA256:a", None, "SHA256:a", True, 0),
        ("SHA256:a", True, "SHA256:b", False, 0),
        (None, True, "SHA256:a", True, 1),
        (None, False, "SHA256:a", False, 1),
        (None, None, "SHA256:a", False, 0),
    ],
    ids=["named and shown", "another than was named", "agreed to", "declined", "nobody is there"],
)
def test_a_hosts_key_is_right_when_somebody_says_so(
    given: str | None, answer: bool | None, shown: str, right: bool, times: int
) -> None:
    """A key that was named is not asked about, and silence is no consent."""
    asked: list[str] = []

    def ask(fingerprint: str) -> bool:
        asked.append(fingerprint)
        return bool(answer)

    question = KeyQuestion(given, ask=None if answer is None else ask)
    assert question(shown) is right
    assert asked == [shown] * times


def test_what_was_agreed_to_is_not_asked_again() -> None:
    """The plan and the run show the same key."""
    asked: list[str] = []
    question = KeyQuestion(None, ask=lambda fingerprint: not asked.append(fingerprint))  # type: ignore[func-returns-value]
    assert question("SHA256:a")
    assert question("SHA256:a")
    assert not question("SHA256:b")
    assert asked == ["SHA256:a"]


@pytest.mark.parametrize(("today", "refused"), [("0.9", False), ("1.0", False), ("1.5", True)])
def test_a_saved_plan_is_not_run_below_todays_price(today: str, refused: bool) -> None:
    """Its price makes the deadline and the budget: an old one, or one that was mended by hand, would promise too much."""
    plan = tiny_plan(Path("model"), Path("data.jsonl"))
    saved = msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, usd_per_hour=Decimal("1.0")))
    listed = (msgspec.structs.replace(plan.offer, usd_per_hour=Decimal(today)),)
    if refused:
        with pytest.raises(Refused, match=r"saved at \$1.0000 an hour; .* is listed at \$1.5000 now"):
            require_price_of_today(saved, listed)
    else:
        require_price_of_today(saved, listed)
    require_price_of_today(saved, ())  # nobody lists it: a host, a machine of one's own


@pytest.mark.parametrize(
    ("kernels", "provider", "told"), [("compiled", "local", True), ("eager", "local", False), ("compiled", "cloud", False)]
)
def test_a_compiler_that_this_machine_lacks_is_told_before_the_run(
    tmp_path: Path, kernels: Kernels, provider: str, *, told: bool
) -> None:
    """Of one that is here, or that a rented box is given, nothing."""
    plan = make_plan(offer=make_offer(provider=provider))
    plan = msgspec.structs.replace(plan, strategy=msgspec.structs.replace(plan.strategy, kernels=kernels))

    assert ("has no C compiler" in (compiler_words(plan, {"PATH": str(tmp_path)}) or "")) == told
    (tmp_path / "gcc").write_text("#!/bin/sh\n")
    (tmp_path / "gcc").chmod(0o755)
    assert compiler_words(plan, {"PATH": str(tmp_path)}) is None
