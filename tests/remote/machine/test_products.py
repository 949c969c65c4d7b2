"""fp32 products: in TF32 where a job asks for it and a card has it, within the job alone.

This machine has no card, so torch's own switch is looked at, not what cuBLAS makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from remote import trainer
from remote.contract import Event, has_tf32
from remote.machine.products import card_capability, fp32_products, multiplying
from tests.remote.conftest import LOOP, MakeJob
from tests.remote.test_trainer import run

pytestmark = pytest.mark.torch

AMPERE, VOLTA = (8, 0), (7, 0)


def test_tf32_is_on_within_the_job_and_off_behind_it_whatever_happened() -> None:
    import torch

    told: list[str] = []
    before = torch.backends.cuda.matmul.fp32_precision

    def fails() -> None:
        with multiplying(AMPERE, told.append, tf32=True):
            raise KeyError(fp32_products())

    with pytest.raises(KeyError, match="tf32"):
        fails()
    assert (fp32_products(), torch.backends.cuda.matmul.fp32_precision) == ("fp32", before)
    assert told == []


def test_torch_s_older_switches_can_be_read_behind_it() -> None:
    """Reading them fails where old and new are mixed: others in this process may ask."""
    import torch

    with multiplying(AMPERE, print, tf32=True):
        pass
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_nobody_who_does_not_ask_gets_it() -> None:
    told: list[str] = []
    with multiplying(AMPERE, told.append, tf32=False):
        assert fp32_products() == "fp32"
    assert told == []


@pytest.mark.parametrize(("capability", "why"), [(VOLTA, "and this card has 7.0"), (None, "and no NVIDIA card computes here")])
def test_where_there_is_none_the_job_goes_on_in_fp32_and_says_so(capability: tuple[int, int] | None, why: str) -> None:
    told: list[str] = []
    with multiplying(capability, told.append, tf32=True):
        assert fp32_products() == "fp32"
    [sentence] = told
    assert sentence.startswith("tf32 changes nothing: ")
    assert sentence.endswith(why)


def test_it_begins_with_ampere() -> None:
    has = {(7, 5): False, (8, 0): True, (8, 9): True, (12, 0): True, None: False}
    assert {capability: has_tf32(capability) for capability in has} == has


def test_a_processor_has_no_capability() -> None:
    assert card_capability("cpu") is None


@pytest.mark.parametrize(("capability", "made_in", "told"), [(AMPERE, "tf32", False), (None, "fp32", True)])
def test_a_job_is_trained_as_it_asks_from_the_first_product_on(
    capability: tuple[int, int] | None,
    made_in: str,
    told: bool,
    make_job: MakeJob,
    events_of: Callable[[Path], list[Event]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in says what the card is: the switch is the card's, and a processor passes over it."""
    monkeypatch.setattr(trainer, "card_capability", lambda _device: capability)
    job = make_job(loop=msgspec.structs.replace(LOOP, tf32=True, max_steps=1, evaluations=0, num_samples=0))
    assert run(job).trained
    events = events_of(job)
    assert [event.data["fp32_products"] for event in events if event.kind == "preflight"] == [made_in]
    assert any(event.data["message"].startswith("tf32 changes") for event in events if event.kind == "warning") is told
    assert fp32_products() == "fp32"
