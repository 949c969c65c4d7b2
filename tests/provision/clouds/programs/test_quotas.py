"""What a machine takes of an account's quota against what the account may have: told before anybody agrees, never guessed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.plan import Plan, Provider
from provision.account.ledger import Ledger
from provision.cli import call
from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.programs.accounts.aws_quotas import used_vcpus
from provision.clouds.programs.accounts.quotas import Quota, shortage
from provision.commands.run import _open
from provision.doctor import clouds_here, examine, smallest_offer
from provision.errors import Refused
from provision.home.places import Places
from provision.prepare.ahead import LookAhead, Outlook, first_open
from provision.prepare.choosing import Chosen
from provision.prepare.limits.quotas import remember, remember_refused, strike_out, with_shortages
from provision.providers import known_providers
from tests.doubles import emulator
from tests.doubles.clouds import CLOUDS as DOUBLES
from tests.doubles.emulator import Emulator
from tests.doubles.services import service_quotas
from tests.provision.plans import about, tiny_files

CATALOG = read_catalog()
At = Callable[[str], Plan]


def priced(key: str) -> Offer:
    """The catalog's offer on demand of that type and place, bought as the key says."""
    place, _, purchase = key.rpartition("/")
    [offer] = [each for each in CATALOG.offers if each.key == f"{place}/on_demand"]
    return msgspec.structs.replace(offer, purchase=purchase)


def quota(limit: float | None, used: float | None = None) -> Quota:
    return Quota(name="P", unit="vCPUs", where="us-east-1", limit=limit, used=used)


# ── need against limit ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (quota(8.0), None),
        (quota(8.0, 0.0), None),
        (quota(0.0), "it takes 8 vCPUs of 'P' in us-east-1, and the account may have 0"),
        (quota(8.0, 4.0), "it takes 8 vCPUs of 'P' in us-east-1, and the account may have 8, of which 4 are in use"),
        (quota(None, 4.0), None),
    ],
    ids=["room", "exactly", "none at all", "taken", "not told"],
)
def test_a_shortage_is_a_sentence_and_what_is_not_told_is_none(told: Quota, why: str | None) -> None:
    assert shortage(told, 8.0) == why


@pytest.mark.parametrize(
    ("key", "code", "vcpus"),
    [
        ("aws/us-east-1/g5.xlarge/on_demand", "L-DB2E81BA", 4.0),
        ("aws/us-east-1/p5.48xlarge/on_demand", "L-417A185B", 192.0),
        ("aws/us-east-1/g5.xlarge/spot", "L-3819A6DF", 4.0),
        ("aws/us-east-1/p4d.24xlarge/spot", "L-7212CCBC", 96.0),
        ("aws/us-east-1/c7i.2xlarge/on_demand", "L-1216C47A", 8.0),
    ],
)
def test_at_aws_families_share_a_quota_of_vcpus(key: str, code: str, vcpus: float) -> None:
    """On demand and spot apart."""
    assert load_cloud("aws").needs(priced(key)) == {code: vcpus}


def test_of_what_runs_at_aws_only_the_same_families_bought_the_same_way_count() -> None:
    """By the vCPUs that EC2 says of each; one that does not say makes it unknown."""

    def running(type: str, cores: int, **more: str) -> dict[str, Any]:
        return {"InstanceType": type, "CpuOptions": {"CoreCount": cores, "ThreadsPerCore": 2}, **more}

    rows = [running("g5.xlarge", 2), running("g6.2xlarge", 4), running("p5.4xlarge", 8), running("m5.xlarge", 2)]
    spot = running("g5.xlarge", 2, InstanceLifecycle="spot")
    assert used_vcpus([*rows, spot], "L-DB2E81BA") == 12.0
    assert used_vcpus([*rows, spot], "L-3819A6DF") == 4.0
    assert used_vcpus([{"InstanceType": "g5.xlarge"}], "L-DB2E81BA") is None


# ── asked of the clouds ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def moto() -> Iterator[Emulator]:
    with emulator.started() as running:
        yield running


def test_aws_is_asked_for_what_the_machine_takes(moto: Emulator) -> None:
    """Service Quotas for the limit, EC2 for what runs; a quota that it has no value of is not told."""
    with service_quotas.started({"L-DB2E81BA": 4.0}) as url:
        environment = moto.environment | {"AWS_ENDPOINT_URL_SERVICE_QUOTAS": url}
        told = load_cloud("aws").quotas("us-east-1", ("L-DB2E81BA", "L-417A185B"), environment)
        look = LookAhead(environment, CATALOG.gpus)
        fits = look(priced("aws/us-east-1/g5.xlarge/on_demand"))
        large = look(priced("aws/us-east-1/g5.2xlarge/on_demand"))
        unknown = look(priced("aws/us-east-1/p5.4xlarge/on_demand"))
    assert [(each.name, each.limit, each.where) for each in told] == [
        ("Running On-Demand G and VT instances", 4.0, "us-east-1"),
        ("Running On-Demand P instances", None, "us-east-1"),
    ]
    assert fits == Outlook(quota="Running On-Demand G and VT instances in us-east-1: 4 vCPUs, and this machine takes 4")
    assert large.why_not == (
        "it takes 8 vCPUs of 'Running On-Demand G and VT instances' in us-east-1, and the account may have 4"
    )
    assert unknown == Outlook(quota="aws does not tell it")


def test_whoever_may_not_ask_is_told_so_and_goes_on(moto: Emulator) -> None:
    """The policy's action for it is named; the order itself decides."""
    with service_quotas.started({}, denies=True) as url:
        environment = moto.environment | {"AWS_ENDPOINT_URL_SERVICE_QUOTAS": url}
        outlook = LookAhead(environment, CATALOG.gpus)(priced("aws/us-east-1/g5.xlarge/on_demand"))
    assert outlook.why_not is None
    assert "could not be asked for" in (outlook.quota or "")
    assert "servicequotas:GetServiceQuota" in (outlook.quota or "")


@pytest.fixture(scope="module", params=["gcp", "digitalocean"])
def running(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    with emulator.started(request.param) as emulated:
        yield emulated


def test_the_others_that_tell_a_limit_are_asked_for_it(running: Emulator) -> None:
    """With what is in use: an account that may have nothing is told from one that may."""
    running.reset()
    offer = DOUBLES[running.cloud].offer
    admitted = LookAhead(running.environment, CATALOG.gpus)(offer)
    running.control.set(quota=0)
    shut = LookAhead(running.environment, CATALOG.gpus)(offer)
    assert admitted.why_not is None
    assert "this machine takes 1" in (admitted.quota or "")
    assert "and the account may have 0" in (shut.why_not or "")


@pytest.mark.parametrize("cloud", ["hetzner", "runpod"])
def test_a_cloud_that_tells_nothing_is_not_asked(cloud: str) -> None:
    """Nothing listens at its address; that its limit is not known is said."""
    outlook = LookAhead(DOUBLES[cloud].variables("http://127.0.0.1:1"), CATALOG.gpus)(DOUBLES[cloud].offer)
    assert outlook == Outlook(quota=f"{cloud} does not tell it")


def test_spot_at_google_is_not_known() -> None:
    """It counts against one of two quotas, and which is not told."""
    spot = msgspec.structs.replace(DOUBLES["gcp"].offer, purchase="spot")
    assert load_cloud("gcp").needs(spot) == {}


def test_a_cloud_without_credentials_here_is_not_asked() -> None:
    """That they are missing is said elsewhere."""
    assert LookAhead({}, CATALOG.gpus)(DOUBLES["gcp"].offer) == Outlook()


# ── what `run` makes of it ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def at(plan: Plan) -> At:
    return lambda region: msgspec.structs.replace(plan, offer=msgspec.structs.replace(plan.offer, region=region))


def look(shut: dict[str, str]) -> Callable[[Offer], Outlook]:
    return lambda offer: Outlook(why_not=shut.get(offer.region), quota=f"of {offer.region}")


def test_the_next_offer_takes_the_place_of_one_that_the_account_may_not_have(at: At) -> None:
    """What is passed over says why; what comes after the first that is open is not looked at."""
    here, there, yonder = at("here"), at("there"), at("yonder")
    opened = first_open((here, there, yonder), look({"here": "no vCPUs", "yonder": "no vCPUs"}))
    assert (opened.plan, opened.alternatives, opened.quota) == (there, (yonder,), "of there")
    assert [(each.offer, each.why) for each in opened.passed] == [(here.offer.key, "no vCPUs")]


def test_where_nothing_is_left_every_offer_says_why(at: At) -> None:
    with pytest.raises(Refused, match=r"here/.*: none; .*there/.*: few"):
        first_open((at("here"), at("there")), look({"here": "none", "there": "few"}))


def test_much_dearer_is_not_taken_unasked(at: At) -> None:
    """With --yes nobody is asked, so it takes --dearer; where somebody is, the plan is shown as it is."""
    first, second = at("here"), at("there")
    dear = msgspec.structs.replace(second, cost=msgspec.structs.replace(second.cost, total_usd=about(2.0)))
    cheap = msgspec.structs.replace(first, cost=msgspec.structs.replace(first.cost, total_usd=about(1.0)))
    chosen, shut = Chosen(cheap, (dear,)), look({"here": "no vCPUs"})
    with pytest.raises(Refused, match=r"no vCPUs\. The next offer, .*, is planned at \$2\.00 .* 100 % more") as caught:
        _open(chosen, {"yes": True, "dearer": False}, shut)
    assert "--dearer" in str(caught.value.hint)
    for options in ({"yes": True, "dearer": True}, {"yes": False, "dearer": False}):
        assert _open(chosen, options, shut).plan == dear


def job(folder: Path) -> Path:
    model, data = tiny_files(folder)
    where = {"providers": ["gcp"], "gpus": ["L4"], "spot": False}
    file = folder / "job.yaml"
    file.write_text(json.dumps({"model": str(model), "data": {"file": str(data)}, "where": where}))
    return file


def test_run_refuses_before_it_asks_and_opens_nothing(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A project that may have no GPU: the quota by its name, need and limit, for every offer that would have been asked for."""
    monkeypatch.setenv("RENTUNE_HOME", str(places.home))
    monkeypatch.setenv("RENTUNE_CACHE", str(places.cache))
    with emulator.started("gcp") as gcp:
        gcp.control.set(quota=0)
        for name, value in gcp.environment.items():
            monkeypatch.setenv(name, value)
        code = call(["run", str(job(tmp_path)), "--yes"])
    said = capsys.readouterr().err
    assert code == 2
    assert "it takes 1 GPUs of 'GPUS_ALL_REGIONS' in the whole project, and the account may have 0" in said
    assert Ledger(places.ledger).runs() == {}


# ── doctor ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_doctor_tells_quota_and_smallest_offer_where_a_cloud_can_be_asked(running: Emulator, places: Places) -> None:
    """And of the others where credentials come from, without asking anybody."""
    running.reset()
    running.control.set(quota=3)
    environment = running.environment | {"HOME": str(places.home)}
    clouds = clouds_here(examine(places, environment), CATALOG, environment)
    assert set(clouds) == set(CLOUDS)
    here = clouds.pop(running.cloud)
    assert here.credentials.startswith("named by ")
    assert ": 3 " in here.gpu_quota
    assert "$" in here.smallest_offer
    for name, other in clouds.items():
        assert other.credentials == f"not found; from {CLOUDS[name].credentials_at}"
        assert other.gpu_quota == "not asked"


def test_what_doctor_and_run_were_told_is_what_plan_knows(running: Emulator, places: Places) -> None:
    """Of an account that may have no GPU each offer there that wants one is short; once it has some it is so no more."""
    running.reset()
    offer, today = DOUBLES[running.cloud].offer, dt.date(2026, 11, 26)
    remembering = partial(remember, file=places.quotas, today=today)
    running.control.set(quota=0)
    clouds_here(examine(places, running.environment), CATALOG, running.environment, remember=remembering)
    LookAhead(running.environment, CATALOG.gpus, remember=remembering)(offer)
    known = with_shortages(known_providers(), places.quotas, today=today)[running.cloud]
    assert known.short[offer.key].have == 0
    assert not known.ready(offer)
    running.control.set(quota=3)
    LookAhead(running.environment, CATALOG.gpus, remember=remembering)(offer)
    assert with_shortages(known_providers(), places.quotas, today=today)[running.cloud].ready(offer)


def test_a_quota_is_known_for_a_month_and_a_damaged_file_is_none(places: Places) -> None:
    """By then it may have been raised; and it only spares a question."""
    offer, asked_on = DOUBLES["gcp"].offer, dt.date(2026, 11, 1)
    quota = Quota(name="GPUS_ALL_REGIONS", unit="GPUs", where="the whole project", limit=2.0, used=1.0)
    remember({offer.key: ((quota, 4.0),)}, places.quotas, today=asked_on)

    def gcp(days: int) -> Provider:
        return with_shortages(known_providers(), places.quotas, today=asked_on + dt.timedelta(days=days))["gcp"]

    short = gcp(30).quota_of(offer)
    assert short is not None
    assert short.words == "quota 1/4 GPUs of GPUS_ALL_REGIONS in the whole project, asked on 2026-11-01"
    assert gcp(31).ready(offer)
    places.quotas.write_text("{")
    assert gcp(1).ready(offer)


def test_an_order_that_was_refused_for_a_limit_is_known_until_one_is_granted(places: Places) -> None:
    """Without figures, which only an answer of the cloud has; a cloud that tells no limit takes nothing back."""
    offer, today = DOUBLES["hetzner"].offer, dt.date(2026, 11, 1)

    def known() -> Provider:
        return with_shortages(known_providers(), places.quotas, today=today)["hetzner"]

    remember_refused(offer, "the project may have no more machines", places.quotas, today=today)
    remember({offer.key: ()}, places.quotas, today=today)
    short = known().quota_of(offer)
    assert short is not None
    assert short.figures == "quota"
    assert short.words == "quota, as an order on 2026-11-01 was refused: the project may have no more machines"
    assert not known().ready(offer)
    strike_out(offer, places.quotas)
    assert known().ready(offer)


def test_a_refused_order_leaves_figures_that_are_known(places: Places) -> None:
    """They say how much to ask the cloud for."""
    offer, today = DOUBLES["gcp"].offer, dt.date(2026, 11, 1)
    remember({offer.key: ((quota(1.0), 4.0),)}, places.quotas, today=today)
    remember_refused(offer, "no", places.quotas, today=today)
    short = with_shortages(known_providers(), places.quotas, today=today)["gcp"].quota_of(offer)
    assert short is not None
    assert (short.have, short.need) == (1.0, 4.0)


def test_the_smallest_offer_is_one_that_the_trainer_runs_on() -> None:
    """No card before Turing, no part of one, nobody's spare machine; without GPUs the cheapest machine."""
    for name in CLOUDS:
        offer = smallest_offer(name, CATALOG)
        if offer is not None and offer.gpu is not None:
            assert CATALOG.gpus[offer.gpu].compute_capability >= (7, 5)  # type: ignore[operator]
            assert offer.num_gpus >= Decimal(1)
            assert offer.hosts != "community"
