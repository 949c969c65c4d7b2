"""The machine's own card as an offer beside the rented ones, read through NVML.

There is no NVIDIA card here: the module that speaks NVML is a double, with the names of nvidia-ml-py's functions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from catalogs.catalog import read_catalog
from planner.search.market.own import HOST_W
from provision.cli import call
from provision.direct.here import card_offer
from provision.errors import Exit, MissingPart, Refused

CATALOG = read_catalog()
MIB = 2**20


class NVMLError(Exception):
    """As the real one, it says in words what is wrong."""


@dataclass
class Nvml:
    """A double of pynvml. A handle is a card's number."""

    cards: list[tuple[str, int, int, int]]  # name, total MiB, free MiB, watts
    no_driver: bool = False
    lost: bool = False
    open: int = 0
    NVMLError: type[Exception] = field(default=NVMLError)

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's own names
        if self.no_driver:
            raise NVMLError("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.cards[handle][0]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        if self.lost:
            raise NVMLError("GPU is lost")
        _, total, free, _ = self.cards[handle]
        return SimpleNamespace(total=total * MIB, free=free * MIB, used=(total - free) * MIB)

    def nvmlDeviceGetPowerManagementLimit(self, handle: int) -> int:  # noqa: N802
        return self.cards[handle][3] * 1000


DESKTOP = ("NVIDIA GeForce RTX 4090", 24_564, 22_100, 450)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    double = Nvml([DESKTOP])
    monkeypatch.setitem(sys.modules, "pynvml", double)
    return double


def test_the_double_has_the_names_of_the_real_package() -> None:
    """nvidia-ml-py is part of the trainer's packages."""
    names = {name for name in (*vars(Nvml), "NVMLError") if name.startswith(("nvml", "NVML"))}
    assert len(names) == 8
    assert [name for name in names if not hasattr(pynvml, name)] == []


def test_a_card_is_an_offer_with_what_its_desktop_leaves_free_at_the_price_of_electricity(nvml: Nvml) -> None:
    """450 W for the card and 100 W for the rest, at 0.30 $/kWh."""
    offer = card_offer(CATALOG, usd_per_kwh=Decimal("0.30"))
    assert (offer.provider, offer.gpu, offer.num_gpus, offer.gpu_free_mib) == ("local", "RTX 4090", Decimal(1), 22_100)
    assert offer.usd_per_hour == Decimal("0.165")
    assert offer.usd_per_hour == Decimal("0.30") * (450 + HOST_W) / 1000
    assert nvml.open == 0


def test_without_a_price_electricity_costs_nothing_and_a_price_that_is_said_counts(nvml: Nvml) -> None:
    assert nvml.cards
    assert card_offer(CATALOG).usd_per_hour == 0
    assert card_offer(CATALOG, usd_per_kwh=Decimal("0.30"), usd_per_hour=Decimal(2)).usd_per_hour == 2


def test_cards_alike_are_one_offer_with_the_least_that_is_free(nvml: Nvml) -> None:
    """A job is the same on each of them; a card of another kind is left out."""
    nvml.cards += [("NVIDIA GeForce RTX 4090", 24_564, 24_000, 450), ("NVIDIA T1000", 8_192, 8_000, 50)]
    offer = card_offer(CATALOG, usd_per_kwh=Decimal(1))
    assert (offer.num_gpus, offer.gpu_free_mib, offer.usd_per_hour) == (Decimal(2), 22_100, Decimal(1))


@pytest.mark.parametrize(
    ("name", "total_mib", "known"),
    [
        ("NVIDIA GeForce RTX 4060 Ti", 16_380, "RTX 4060 Ti 16GB"),
        ("NVIDIA GeForce RTX 4060 Ti", 8_188, "RTX 4060 Ti 8GB"),
        ("NVIDIA GeForce RTX 3080", 12_288, "RTX 3080 12GB"),
        ("Tesla T4", 15_360, "T4"),
        ("NVIDIA TITAN RTX", 24_576, "Titan RTX"),
        ("NVIDIA H100 80GB HBM3", 81_559, "H100 SXM5"),
    ],
)
def test_of_several_cards_with_one_name_the_memory_tells_which(name: str, total_mib: int, known: str, nvml: Nvml) -> None:
    nvml.cards = [(name, total_mib, total_mib, 100)]
    assert card_offer(CATALOG).gpu == known


def test_what_can_t_be_an_offer_is_refused_in_words(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, said in (
        (Nvml([], no_driver=True), "needs an NVIDIA GPU in this machine: NVML Shared Library Not Found"),
        (Nvml([]), "its driver lists none"),
        (Nvml([DESKTOP], lost=True), "can't be read: GPU is lost"),
        (Nvml([("NVIDIA Z9000", 1_024, 1_000, 10)]), "NVIDIA Z9000 is not in the catalog"),
    ):
        monkeypatch.setitem(sys.modules, "pynvml", wrong)
        with pytest.raises(Refused, match=said):
            card_offer(CATALOG)
        assert wrong.open == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingPart, match="nvidia-ml-py"):
        card_offer(CATALOG)
    assert nvml.open == 0


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert call(["plan", "--model", "SmolLM2-135M", "--examples", "100", "--top", "8", "--json", *words]) == Exit.OK
    told: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
    return told


@pytest.mark.usefixtures("nvml")
def test_it_stands_beside_the_rented_ones_and_says_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    plans = planned(capsys, "--gpu", "here", "--gpu", "L4", "--power-price", "0.30")["plans"]
    machines = {(plan["offer"]["provider"] == "local", plan["offer"]["gpu"]) for plan in plans}
    assert machines == {(True, "RTX 4090"), (False, "L4")}
    own = next(plan for plan in plans if plan["offer"]["provider"] == "local")
    assert own["gpu"]["torch_memory_gib"] == 22_100 / 1024
    assert 0 < float(own["cost"]["total_usd"]["p50"]) < 0.2
    said = " ".join(own["assumptions"])
    assert "22,100 MiB are free now; what the desktop holds is taken off" in said
    assert "electricity at $0.30 per kWh" in said
    [alone, *_] = planned(capsys, "--gpu", "here", "--provider", "local")["plans"]
    assert "electricity is not counted; --power-price 0.30 counts it" in " ".join(alone["assumptions"])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """The answer as a person reads it, in one line, and what is said beside it."""
    assert call(["plan", "--model", "SmolLM2-135M", "--examples", "100", *words]) == Exit.OK
    seen = capsys.readouterr()
    return " ".join(seen.out.split()), seen.err


@pytest.mark.usefixtures("nvml")
def test_what_is_free_without_a_price_of_electricity_says_so_in_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    line = "free: your electricity is not counted; --power-price 0.30 counts it."
    assert line in told(capsys, "--gpu", "here", "--provider", "local")[0]
    assert line not in told(capsys, "--gpu", "here", "--provider", "local", "--power-price", "0.30")[0]


def test_a_card_that_the_plan_leaves_idle_is_named(
    nvml: Nvml, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--provider local` alone plans for the cores. A card that would be refused, and a machine without one, are not named."""
    note = "this machine has a card (RTX 4090), and its cores are planned for; --gpu here plans with the card"
    assert note in " ".join(told(capsys, "--provider", "local")[0].split())
    assert note in json.loads(told(capsys, "--provider", "local", "--json")[0])["data"]["warnings"]
    assert "its cores are planned for" not in told(capsys, "--provider", "local", "--gpu", "here")[0]
    nvml.cards = [("NVIDIA Z9000", 1_024, 1_000, 10)]
    assert "--gpu here" not in told(capsys, "--provider", "local")[0]
    for nothing in (Nvml([]), Nvml([], no_driver=True), None):
        monkeypatch.setitem(sys.modules, "pynvml", nothing)
        assert "--gpu here" not in told(capsys, "--provider", "local")[0]


@pytest.mark.usefixtures("nvml")
def test_what_does_not_fit_beside_the_desktop_is_no_plan_on_it(nvml: Nvml, capsys: pytest.CaptureFixture[str]) -> None:
    """A 7B in 4 bits trains in 22 GB; where a game holds the card it does not."""
    asked = ["plan", "--model", "7b", "--examples", "100", "--gpu", "here", "--provider", "local", "--json"]
    assert call(asked) == Exit.OK
    capsys.readouterr()
    nvml.cards = [("NVIDIA GeForce RTX 4090", 24_564, 1_500, 450)]
    assert call(asked) == Exit.REFUSED


@pytest.mark.usefixtures("nvml")
def test_a_saved_job_looks_at_the_card_again(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It says "here", and not the card's name: `run` finds it as it is then."""
    job = tmp_path / "job.yaml"
    planned(capsys, "--gpu", "here", "--provider", "local", "--power-price", "0.25", "--save", str(job))
    text = job.read_text()
    assert "here" in text
    assert "power_price: 0.25" in text
    assert call(["plan", str(job), "--json"]) == Exit.OK
    [plan, *_] = json.loads(capsys.readouterr().out)["data"]["plans"]
    assert (plan["offer"]["gpu"], plan["offer"]["provider"]) == ("RTX 4090", "local")


def test_what_this_machine_offers_is_read_without_ssh() -> None:
    """A plan asks for the offer alone: the box that it becomes brings paramiko, which costs start-up time."""
    code = "import sys, provision.direct.here; print('provision.direct.local' in sys.modules, 'paramiko' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]
