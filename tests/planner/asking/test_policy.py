"""Rules on what may be rented: each refuses with its file and its key, and none holds for a machine of one's own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from planner.asking.policy import KEYS, Broken, Cap, Key, Rule, cap, in_force, lease_hours, limits_of, refusal
from planner.asking.request import Budget, RequestError, Where
from planner.plan import Provider, Rejection
from planner.report.words import why_none
from tests.planner.builders import ask, make_catalog, make_offer, make_request

OURS = "/home/ada/.config/rentune/policy.toml"
THEIRS = "/etc/rentune/policy.toml"
ALLOWING: dict[Key, Any] = {  # values that let the standard offer pass
    "providers": ("cloud",),
    "regions": ("nor*",),
    "hosts": "data centre",
    "max_usd_per_hour": Decimal("1.00"),
    "max_usd_per_run": Decimal(1000),
    "lease": 2.0,
}
REFUSING: dict[Key, tuple[Any, str]] = {
    "providers": (("aws", "gcp"), "not from aws or gcp"),
    "regions": (("eu-*",), "not in eu-*"),
    "max_usd_per_hour": (Decimal("0.99"), "over $0.99 an hour"),
    "max_usd_per_run": (Decimal("0.01"), "over $0.01 at p90"),
}
OFFER = make_offer(hosts="data centre")


def rule(key: Key, allows: Any, *, said_in: str = THEIRS) -> Rule:
    return Rule(key=key, allows=allows, said_in=said_in, may_be_overruled=said_in != THEIRS)


def only(rejections: tuple[Rejection, ...], place: str) -> Rejection:
    (found,) = [rejection for rejection in rejections if place in rejection.reason]
    return found


@pytest.mark.parametrize("key", KEYS)
def test_what_a_rule_allows_is_planned(key: Key) -> None:
    """As if there were no rule."""
    free, bound = (ask(make_request(), make_catalog(OFFER), rules=rules) for rules in ((), (rule(key, ALLOWING[key]),)))
    assert bound == free


@pytest.mark.parametrize("key", REFUSING)
def test_a_refused_offer_names_file_and_key(key: Key) -> None:
    """Nothing is planned, and the reason says who said no."""
    allows, words = REFUSING[key]
    result = ask(make_request(), make_catalog(OFFER), rules=(rule(key, allows),))
    assert result.plans == ()
    found = only(result.rejections, f"({key} in {THEIRS})")
    assert found.reason.startswith(words)
    assert (found.remedy or "").endswith(f"whoever keeps {THEIRS} can change it")
    assert ("catalog refresh" in (found.remedy or "")) == (key == "regions"), "a list without such places forbids nothing"
    assert found.num_offers == 1


@pytest.mark.parametrize(("hosts", "refused"), [("data centre", False), ("community", True), (None, True)])
def test_only_hosts_in_data_centres_are_trusted_unless_somebody_says_otherwise(hosts: Any, *, refused: bool) -> None:
    """What nobody has established is as good as unknown company."""
    offer = make_offer(hosts=hosts)
    strict, open_to_all = rule("hosts", "data centre"), rule("hosts", "community")
    assert (refusal(strict, offer) is not None) == refused
    assert refusal(open_to_all, offer) is None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("provider", ["local", "host"])
def test_no_rule_holds_for_a_machine_of_ones_own(key: Key, provider: str) -> None:
    """Nothing is rented there."""
    allows = REFUSING[key][0] if key in REFUSING else "data centre"
    offer = make_offer(provider=provider)
    assert refusal(rule(key, allows), offer) is None
    assert cap(Budget(), (rule("max_usd_per_run", Decimal("0.01")),), offer) is None


def test_the_lowest_limit_in_dollars_counts() -> None:
    """Of the job and of both files; a job's own word wins a tie, for that is what its user can change."""
    theirs, ours = rule("max_usd_per_run", Decimal(20)), rule("max_usd_per_run", Decimal(10), said_in=OURS)
    assert cap(Budget(max_usd=Decimal(30)), (theirs, ours), OFFER) == Cap(usd=Decimal(10), rule=ours)
    assert cap(Budget(max_usd=Decimal(5)), (theirs, ours), OFFER) == Cap(usd=Decimal(5))
    assert cap(Budget(max_usd=Decimal(10)), (ours,), OFFER) == Cap(usd=Decimal(10))
    assert cap(Budget(), (), OFFER) is None


def test_the_shortest_lease_counts() -> None:
    """Of the job and of both files: an organisation may demand one, and nobody lengthens it. None of them on a machine of one's
    own.
    """
    theirs, ours = rule("lease", 2.0), rule("lease", 4.0, said_in=OURS)
    assert lease_hours(Budget(), (theirs, ours), OFFER) == 2.0
    assert lease_hours(Budget(lease_hours=3.0), (theirs, ours), OFFER) == 2.0
    assert lease_hours(Budget(lease_hours=1.0), (theirs, ours), OFFER) == 1.0
    assert lease_hours(Budget(), (), OFFER) is None
    assert lease_hours(Budget(), (theirs,), make_offer(provider="local")) is None
    assert ours.words == f"lease 4h in {OURS}"


@pytest.mark.parametrize("rules", [(), (rule("lease", 2.0),)], ids=["the job's", "a policy's"])
def test_no_lease_is_promised_where_a_machine_that_is_off_costs_on(rules: tuple[Rule, ...]) -> None:
    """Such an offer is planned, and not recommended; another is."""
    request = make_request(budget=Budget(lease_hours=None if rules else 2.0))
    catalog = make_catalog(OFFER, make_offer(provider="elsewhere", hosts="data centre", usd_per_hour=Decimal(9)))
    kept = Provider(name="elsewhere", runnable=True, status="", keeps_lease=True)
    off_costs = msgspec.structs.replace(kept, name="cloud", keeps_lease=False)
    result = ask(request, catalog, rules=rules, providers=(kept, off_costs))
    (refused,) = [plan for plan in result.plans if plan.offer.provider == "cloud"]
    assert "a lease ends no bill at cloud before the deadline" in (refused.why_not or "")
    assert result.recommended is not None
    assert result.recommended.offer.provider == "elsewhere"


def test_whom_a_lease_of_a_policy_rules_out_is_counted_with_its_file_and_its_key() -> None:
    """Like what any other rule refuses; the offer stands in no table, and what would do is told."""
    leased = msgspec.structs.replace(rule("lease", 2.0, said_in=OURS), unkept_at=("cloud",))
    catalog = make_catalog(OFFER, make_offer(provider="elsewhere", hosts="data centre"))
    kept = Provider(name="elsewhere", runnable=True, status="", keeps_lease=True)
    result = ask(make_request(), catalog, rules=(leased,), providers=(kept,))
    assert {plan.offer.provider for plan in result.plans} == {"elsewhere"}
    found = only(result.rejections, f"(lease in {OURS})")
    assert (found.num_offers, found.remedy) == (1, "--overrule-policy lease")
    assert "a lease ends no bill" in found.reason


def test_the_rule_that_refuses_the_last_offers_left_is_named_first() -> None:
    """Many more were refused for what the person asked for, and meant."""
    others = [make_offer(provider="elsewhere", hosts="data centre", instance_type=f"m{number}") for number in range(9)]
    request = make_request(where=Where(providers=("cloud",)))
    result = ask(request, make_catalog(OFFER, *others), rules=(rule("providers", ("elsewhere",)),))
    assert why_none(result).endswith(
        f"does this job: 1 offer not from elsewhere (providers in {THEIRS}); 9 offers not from cloud."
    )


def test_what_a_job_breaks_of_its_limits_is_named() -> None:
    """A rule's limit before the job's own, which is easier to lift, and with it where that is lower. What holds to the cent,
    and to the second, breaks none.
    """
    budget, ours = Budget(max_usd=Decimal(5), max_hours=2.0), rule("max_usd_per_run", Decimal(10), said_in=OURS)
    limits = limits_of(budget, (ours,), OFFER)
    assert limits.broken(usd=5.0, seconds=7_200.0) is None
    assert limits.broken(usd=5.01, seconds=7_200.0) == Broken(Cap(usd=Decimal(5)), None)
    both = Cap(usd=Decimal(10), rule=ours, own_usd=Decimal(5))
    assert limits.broken(usd=10.01, seconds=7_201.0) == Broken(both, 7_200.0)
    assert limits_of(Budget(), (), OFFER, usual_max_s=60.0).broken(usd=1e9, seconds=61.0) == Broken(None, 60.0)


def test_a_plan_over_the_users_own_limit_says_how_to_go_on() -> None:
    """The option stands in the remedy, and with it the plan is there."""
    ours = rule("max_usd_per_run", Decimal("0.01"), said_in=OURS)
    refused = ask(make_request(), make_catalog(OFFER), rules=(ours,))
    assert only(refused.rejections, OURS).remedy == "--overrule-policy max_usd_per_run"
    assert ask(make_request(overruled=("max_usd_per_run",)), make_catalog(OFFER), rules=(ours,)).recommended is not None


def test_where_the_job_s_own_limit_is_the_lower_one_both_are_told() -> None:
    """It binds first; the policy's alone would say that setting that aside were enough."""
    ours = rule("max_usd_per_run", Decimal("0.01"), said_in=OURS)
    request = make_request(budget=Budget(max_usd=Decimal("0.005")))
    refused = only(ask(request, make_catalog(OFFER), rules=(ours,)).rejections, OURS)
    assert refused.reason.startswith(f"over $0.005 (--max-cost) and $0.01 at p90 (max_usd_per_run in {OURS})")


def test_a_users_own_rule_can_be_set_aside_for_one_job() -> None:
    """The others stay."""
    mine, other = rule("regions", ("eu-*",), said_in=OURS), rule("providers", ("cloud",), said_in=OURS)
    assert in_force((mine, other), ("regions",)) == (other,)
    assert ask(make_request(overruled=("regions",)), make_catalog(OFFER), rules=(mine, other)).recommended is not None


def test_an_organisations_rule_can_not() -> None:
    """Not even where the user's own file says the same."""
    both = rule("regions", ("eu-*",)), rule("regions", ("eu-*",), said_in=OURS)
    with pytest.raises(RequestError, match=f"regions in {THEIRS} can't be overruled"):
        ask(make_request(overruled=("regions",)), make_catalog(OFFER), rules=both)


@pytest.mark.parametrize(
    ("key", "allows", "meant"),
    [
        ("regions", ("north", "eu-*"), ""),
        ("providers", ("cloud", "clowd"), "; did you mean cloud?"),
        ("providers", ("cloud", "xyz"), ""),
    ],
)
def test_a_rule_that_names_what_is_not_there_is_said(key: Key, allows: tuple[str, ...], meant: str) -> None:
    """It would forbid all that it was meant to allow, without a word."""
    result = ask(make_request(), make_catalog(OFFER), rules=(rule(key, allows),))
    assert result.warnings == (f"{key} in {THEIRS}: no {key[:-1]} of the catalog is called {allows[1]!r}{meant}",)


def test_a_pattern_that_means_no_place_is_answered_with_those_that_begin_alike() -> None:
    """Google's Europe is europe-*, and whoever wrote eu-* meant that, too."""
    there = make_catalog(make_offer(hosts="data centre", region="europe-west4"))
    (warning,) = ask(make_request(), there, rules=(rule("regions", ("eu-*",)),)).warnings
    assert warning.endswith("no region of the catalog is called 'eu-*'; did you mean 'europe-*'?")


def test_an_offer_that_names_no_region_is_refused_as_that() -> None:
    """Apart from those that lie somewhere else: it may lie where it is allowed, and nobody says so."""
    there = make_catalog(OFFER, make_offer(hosts="data centre", region="*", instance_type="anywhere"))
    refused = [each.reason for each in ask(make_request(), there, rules=(rule("regions", ("eu-*",)),)).rejections]
    assert refused == [f"in no region that its seller names (regions in {THEIRS})", f"not in eu-* (regions in {THEIRS})"]


@pytest.mark.parametrize("key", ["providers", "regions"])
def test_a_rule_on_who_gets_the_data_is_not_set_aside_on_a_hints_word(key: Key) -> None:
    """A change of the file comes first; and a list that is empty allows nobody, in words."""
    ours = rule(key, (), said_in=OURS)
    (refused,) = ask(make_request(), make_catalog(OFFER), rules=(ours,)).rejections
    *first, last = (refused.remedy or "").partition("; else ")
    assert (last or first[0]) == f"a change of {OURS}; for one job --overrule-policy {key}"
    assert ("catalog refresh" in first[0], "catalog import" in first[0]) == (key == "regions", key == "regions")
    assert "is allowed" in refused.reason


def test_no_way_out_leads_past_a_rule() -> None:
    """What would help is looked for among what may be rented."""
    wanted = make_offer(hosts="data centre", usd_per_hour=Decimal(2))
    stranger = make_offer(provider="elsewhere", instance_type="stranger", hosts="community")
    request = make_request(where=Where(providers=("nobody",)))
    catalog = make_catalog(wanted, stranger, make_offer(provider="nobody", region="south", gpu=None, num_gpus=Decimal(0)))
    result = ask(request, catalog, rules=(rule("hosts", "data centre"),))
    assert {way.plan.offer.instance_type for way in result.ways_out} <= {"one"}
