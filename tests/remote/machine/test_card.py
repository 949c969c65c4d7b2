"""Whether a card is the one that was planned for. No card is in this machine: NVML is a double, torch's part is said."""

from __future__ import annotations

import os
from typing import Any

import pytest

from remote.machine.card import Seen, runs_on, unfit
from remote.machine.nvml import Holder
from remote.units import GIB
from tests.remote.machine.fake_nvml import NVMLError, fake_card, process

WHEEL = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")


def seen(**changes: Any) -> Seen:
    """An idle RTX 4090 under a driver that will do."""
    found: dict[str, Any] = {
        "name": "NVIDIA GeForce RTX 4090",
        "capability": (8, 9),
        "architectures": WHEEL,
        "cuda": (13, 2),
        "driver": 580,
        "free_bytes": 23 * GIB,
        "total_bytes": 24 * GIB,
        "own_bytes": None,
        "others": (),
        "uncorrected_errors": None,
        "failed_rows": False,
    }
    return Seen(**found | changes)


@pytest.mark.fault("F11", tier="code")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"capability": (7, 0)}, "no code for compute capability 7.0"),
        ({"capability": (13, 0)}, "no code for the NVIDIA GeForce RTX 4090, of compute capability 13.0: it is built for sm_75"),
        ({"driver": 535}, "its NVIDIA driver 535 is too old"),
        ({"uncorrected_errors": 3}, "3 errors that ECC could not correct"),
        ({"failed_rows": True}, "broken rows of memory and none to put in their place"),
        ({"free_bytes": 5 * GIB}, "5.0 of 24.0 GiB of VRAM are free, the plan needs 20.0; another card is the cure"),
        (
            {"free_bytes": 5 * GIB, "others": (Holder(7, None), Holder(9, 17 * GIB), Holder(4, GIB), Holder(5, GIB))},
            "other processes compute on it: 9 (17.0 GiB), 4 (1.0 GiB), 5 (1.0 GiB) and 1 more; end them",
        ),
    ],
)
def test_a_card_that_can_not_train_it_is_refused_in_one_sentence(changes: dict[str, Any], words: str) -> None:
    why = unfit(seen(**changes), 20 * GIB)
    assert why is not None
    assert words in why
    assert "\n" not in why


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"driver": None},
        {"uncorrected_errors": 0},
        {"free_bytes": 19 * GIB, "own_bytes": GIB},  # this process's context, which the plan counts
        {"others": (Holder(9, GIB),)},  # somebody is there, and leaves enough
        {"architectures": ()},
    ],
)
def test_a_card_that_can_is_not(changes: dict[str, Any]) -> None:
    assert unfit(seen(**changes), 20 * GIB) is None


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((8, 9), ("sm_80", "sm_86"), True),  # code for 8.6 runs on 8.9
        ((8, 0), ("sm_86",), False),  # and never on an older one
        ((9, 0), ("sm_86",), False),  # nor on another generation
        ((9, 0), ("sm_86", "compute_80"), True),  # PTX is compiled there
        ((9, 0), ("sm_90a",), True),
        ((12, 1), ("sm_120",), True),
    ],
)
def test_which_code_runs_on_which_card(capability: tuple[int, int], architectures: tuple[str, ...], runs: bool) -> None:
    """CUDA's rules of compatibility: binaries within a generation, PTX on what is newer."""
    assert runs_on(capability, architectures) is runs


def test_the_meters_of_a_card_are_read_and_those_that_lack_are_none() -> None:
    held = [process(os.getpid(), 3 * GIB), process(1, None)]
    card = fake_card(ComputeRunningProcesses=held, TotalEccErrors=lambda kind, since: 2 if (kind, since) == (1, 0) else 0)
    assert card.own_bytes() == 3 * GIB
    assert card.holders() == (Holder(os.getpid(), 3 * GIB), Holder(1, None))
    assert (card.uncorrected_errors(), card.driver()) == (2, 580)
    bare = fake_card(TotalEccErrors=NVMLError("not supported"), driver=b"535.183.01")
    assert (bare.uncorrected_errors(), bare.failed_rows(), bare.energy_j(), bare.own_bytes()) == (None, False, None, None)
    assert bare.driver() == 535
    assert fake_card(RemappedRows=[0, 1, 0, 1]).failed_rows()
    assert not fake_card(RemappedRows=[0, 1, 1, 0]).failed_rows()
