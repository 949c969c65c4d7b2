"""What the meters show, once a second, and what is told of it. No card is in this machine: NVML is a double."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from remote.contract import Event, Phase
from remote.machine.advice import Advisor
from remote.machine.nvml import Card
from remote.machine.readings import Host, read_card, throttles_of
from remote.machine.sampler import Sampler, link_bytes_per_s
from remote.telemetry import Events
from tests.remote.machine.fake_nvml import NVMLError, fake_card

EventsOf = Callable[[Path], list[Event]]


def working_card() -> Card:
    return fake_card(
        UtilizationRates=SimpleNamespace(gpu=97, memory=40),
        MemoryInfo=SimpleNamespace(used=7 * 2**30, free=2**30),
        Temperature=lambda which: {0: 71}[which],
        PowerUsage=312_500,
        ClockInfo=lambda which: {1: 1980, 2: 2619}[which],
        PcieThroughput=lambda way: {0: 1000, 1: 2_000_000}[way],
        CurrentClocksEventReasons=0x4 | 0x20 | 0x40,
        MaxPcieLinkGeneration=5,
        MaxPcieLinkWidth=16,
    )


def test_every_meter_is_read_in_the_unit_that_its_name_says() -> None:
    assert read_card(working_card()) == {
        "gpu_utilization_percent": 97.0,
        "vram_used_bytes": 7 * 2**30,
        "gpu_temperature_c": 71.0,
        "gpu_power_w": 312.5,
        "gpu_clock_mhz": 1980.0,
        "vram_clock_mhz": 2619.0,
        "pcie_sent_bytes_per_s": 1000 * 1024,
        "pcie_received_bytes_per_s": 2_000_000 * 1024,
    }
    assert link_bytes_per_s(working_card()) == pytest.approx(126e9, rel=0.01)


def test_meters_that_a_card_does_not_have_are_not_named() -> None:
    poor = fake_card(Temperature=65, PowerUsage=NVMLError("not supported"))
    assert read_card(poor) == {"gpu_temperature_c": 65.0}
    assert throttles_of(poor) == ()
    assert link_bytes_per_s(poor) is None
    assert link_bytes_per_s(None) is None


def test_a_card_at_its_power_limit_is_at_work_and_one_that_is_hot_is_throttled() -> None:
    assert throttles_of(working_card()) == ("heat",)
    assert throttles_of(fake_card(CurrentClocksEventReasons=0x4)) == ()
    assert throttles_of(fake_card(CurrentClocksThrottleReasons=0x80)) == ("its power supply",)  # by the name that it had


def test_the_machine_s_rates_are_of_the_time_since_the_last_look(tmp_path: Path) -> None:
    host = Host(tmp_path)
    found = host.read()
    assert found["ram_process_bytes"] > 10e6
    assert found["disk_free_bytes"] > 0
    assert all(figure >= 0 for figure in found.values())
    assert {"cpu_percent", "process_cpu_percent", "ram_available_bytes", "net_received_bytes_per_s"} <= found.keys()


class Clock:
    """A second at each look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def test_looks_are_told_as_least_mean_and_most_of_ten_seconds(tmp_path: Path, events_of: EventsOf) -> None:
    clock, card = Clock(), working_card()
    with Events(tmp_path / "events.jsonl") as events:
        events.enter(Phase.TRAIN)
        sampler = Sampler(events, Host(tmp_path), card, Advisor(link_bytes_per_s=None))
        for _ in range(25):
            sampler.look(clock)
    told = [event for event in events_of(tmp_path / "job.json") if event.kind == "telemetry"]
    assert [event.data["seconds"] for event in told] == [10.0, 10.0]
    assert told[0].data["gpu_power_w"] == [312.5, 312.5, 312.5]
    assert told[0].data["throttled"] == {"heat": 1.0}
    least, mean, most = told[0].data["ram_process_bytes"]
    assert 0 < least <= mean <= most
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()[2]) < 1500  # a line stays small


def test_what_was_seen_last_is_told_at_the_end_and_a_meter_that_fails_ends_nothing(tmp_path: Path, events_of: EventsOf) -> None:
    class Failing(Host):
        def read(self) -> dict[str, float]:
            found = super().read()
            if len(seen) == 1:
                seen.append(found)
                raise OSError("it is gone")
            seen.append(found)
            return found

    seen: list[dict[str, float]] = []
    with Events(tmp_path / "events.jsonl") as events:
        sampler = Sampler(events, Failing(tmp_path), None, Advisor(link_bytes_per_s=None), look_s=0.01)
        with sampler.awake():
            while len(seen) < 4:
                time.sleep(0.01)
    (told,) = [event.data for event in events_of(tmp_path / "job.json") if event.kind == "telemetry"]
    assert told["seconds"] == pytest.approx(0.01 * (len(seen) - 1))
    assert "gpu_power_w" not in told
