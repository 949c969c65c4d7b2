"""What the pinned torch asks of a machine: which cards, and which driver; an old one is named as what it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from catalogs.catalog import read_catalog
from remote.machine import drivers, preflight
from remote.machine.drivers import least_driver, unfit_card, unfit_driver

LOCK = Path(drivers.__file__).parents[1] / "requirements.txt"
# As the kernel modules of NVIDIA write it, the closed and the open one.
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
)
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n"


def test_the_table_says_the_cuda_of_the_lock() -> None:
    """A newer torch may be built for a newer CUDA, and ask for a newer driver."""
    found = re.search(r"^nvidia-cuda-runtime==(\d+)\.(\d+)\.", LOCK.read_text(), re.MULTILINE)
    assert found
    assert (int(found[1]), int(found[2])) == drivers.TORCH_CUDA


def test_every_nvidia_card_of_the_catalog_has_a_row() -> None:
    """A new architecture comes with a driver of its own."""
    cards = {gpu.compute_capability for gpu in read_catalog().gpus.values() if gpu.compute_capability is not None}
    assert cards <= drivers.LEAST_FOR_CARD.keys()


@pytest.mark.parametrize(
    ("capability", "cuda", "least"),
    [
        ((8, 9), (13, 2), 580),
        ((12, 0), (13, 2), 580),
        ((12, 0), (12, 6), 570),
        ((9, 0), (12, 6), 525),
        ((7, 0), (11, 8), 450),
        (None, (13, 0), 580),
    ],
)
def test_the_newer_of_what_torch_and_card_need(capability: tuple[int, int] | None, cuda: tuple[int, int], least: int) -> None:
    """A Blackwell card needs 570, whatever CUDA torch has; CUDA 13 needs 580, whatever the card."""
    assert least_driver(capability, cuda=cuda) == least
    assert unfit_driver(least, capability, cuda=cuda) is None
    assert unfit_driver(least - 1, capability, cuda=cuda) == (
        f"its NVIDIA driver {least - 1} is too old: torch's CUDA {cuda[0]}.{cuda[1]} needs {least} or newer"
    )


def test_a_driver_may_be_too_new_for_an_old_card() -> None:
    """580 is the last that knows what came before Turing."""
    assert unfit_driver(580, (7, 0)) is None
    assert "580 was the last" in (unfit_driver(595, (7, 0)) or "")
    assert unfit_driver(595, (7, 5)) is None


def test_a_card_that_torch_has_no_code_for() -> None:
    assert unfit_card((7, 5)) is None
    assert "no code for compute capability 7.0" in (unfit_card((7, 0)) or "")


@pytest.mark.parametrize(("said", "branch"), [(CLOSED, 535), (OPEN, 580), ("something else\n", None)])
def test_the_loaded_driver_is_known_by_what_its_module_says(tmp_path: Path, said: str, branch: int | None) -> None:
    file = tmp_path / "version"
    file.write_text(said)
    assert preflight.installed_driver(file) == branch


def test_no_module_is_no_driver(tmp_path: Path) -> None:
    assert preflight.installed_driver(tmp_path / "version") is None


@pytest.mark.fault("F11", tier="code")
@pytest.mark.parametrize(
    ("cuda", "driver", "told"),
    [
        ("13.2", 535, "its NVIDIA driver 535 is too old: torch's CUDA 13.2 needs 580 or newer"),
        ("13.2", 580, "its NVIDIA driver 580 would do; is a card in it?"),
        ("13.2", None, "is the driver installed?"),
        (None, 580, "it is built without CUDA"),
    ],
)
def test_why_torch_sees_no_gpu(cuda: str | None, driver: int | None, told: str) -> None:
    """An old driver is told from none, and both from a torch without CUDA: each is mended elsewhere."""
    why = preflight._why_no_gpu(cuda, driver)
    assert why.startswith("the job wants a GPU, but torch sees none on this machine")
    assert told in why
