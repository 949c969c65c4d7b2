"""Which run is meant by what was typed of its id."""

from __future__ import annotations

import msgspec
import pytest

from provision.account.ledger import Ledger
from provision.charge.finding import find_run
from provision.cli import call
from provision.errors import BadInput, Exit


def test_a_run_is_found_by_a_part_of_its_id(run_id: str, ledger: Ledger) -> None:
    """The end of it is enough to type."""
    assert find_run(ledger, run_id[-4:]).run_id == run_id
    with pytest.raises(BadInput, match="There is no run"):
        find_run(ledger, "zzzz")


@pytest.mark.parametrize("words", [["down", ""], ["down", "--orphans", ""], ["logs", ""], ["resume", ""], ["report", ""]])
def test_an_empty_id_fits_no_run(run_id: str, words: list[str], ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """An unset variable in a script must not end the only run there is."""
    assert call(words) == Exit.REFUSED
    assert "The run's id is empty." in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None


def test_a_part_that_fits_several_runs_names_them(run_id: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest five: what to type is one of these."""
    others = [f"{run_id[:9]}99999{number}-abcd" for number in range(5)]
    for other in others:
        ledger.append(msgspec.structs.replace(ledger.runs()[run_id].opened, run_id=other))
    assert call(["logs", run_id[:8]]) == Exit.REFUSED
    assert f"6 runs fit {run_id[:8]!r}: …, {', '.join(others)}." in capsys.readouterr().err


def test_a_letter_or_two_end_no_run(run_id: str, ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """They are enough to look at the only run there is."""
    assert call(["down", run_id[-2:]]) == Exit.REFUSED
    assert "type at least 4 letters" in capsys.readouterr().err
    assert ledger.runs()[run_id].teardown is None
    assert call(["down", run_id[-4:]]) == Exit.OK
