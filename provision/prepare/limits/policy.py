"""policy.toml: what an organisation, or a user for themselves, lets rentune rent, and whom it tells of a run.

The organisation's file binds; of the user's own any key can be set aside for one job, which the ledger then records. Both
hold at once, so a file can only narrow what the other leaves. Without a word on hosts, community hosts are refused.

This guards against mistakes, not against whoever sits at the keyboard: what an account may do is decided at the cloud.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from catalogs.hardware import Hosts
from catalogs.user_file import FileUnusable, exists, read_text
from planner.asking.bounds import REQUEST_BOUNDS, complaint
from planner.asking.checks import require_lease
from planner.asking.policy import DEFAULT as THE_DEFAULT
from planner.asking.policy import KEYS, LEASE, Rule, cap, in_force, lease_hours, refusal
from planner.asking.quantities import parse_lease
from planner.asking.request import Budget, Request, RequestError
from planner.plan import Plan
from provision.errors import BadInput, Refused
from provision.home.places import Places
from provision.providers import keeps_lease, leaseless

LINES: Final = 'write lines such as `max_usd_per_hour = 4` and `regions = ["us-*"]`'
MAX_DEPTH: Final = 20  # assumed: a policy has keys and lists; a key of 30,000 parts takes tomllib 35 s
QUOTED: Final = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
MAX_POLICY_BYTES: Final = 64 * 1024  # assumed: a policy has ten lines
DEFAULT: Final = Rule(key="hosts", allows="data centre", said_in=THE_DEFAULT, may_be_overruled=True)


class PolicyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file. What it leaves out it does not limit."""

    providers: tuple[str, ...] | None = None
    regions: tuple[str, ...] | None = None  # names or patterns, in each provider's own words: "us-*"
    hosts: Hosts | None = None  # "community" lets anybody's machines in, "data centre" nobody's
    max_usd_per_hour: Decimal | None = None
    max_usd_per_run: Decimal | None = None  # held at a plan's p90, and by the deadline
    lease: str | None = None  # every run's, and the longest that one may have: "2h"
    alerts: tuple[str, ...] = ()  # addresses of webhooks, or commands
    state: str | None = None  # where in object storage every run's state lies


def read_rules(places: Places) -> tuple[Rule, ...]:
    """The organisation's rules, then the user's, then the default. Raises BadInput for a file that can't be used."""
    organisation, user = read_policies(places)
    rules = (
        *_rules(organisation, places.organisation_policy, may_be_overruled=False),
        *_rules(user, places.user_policy, may_be_overruled=True),
    )
    return rules if any(rule.key == DEFAULT.key for rule in rules) else (*rules, DEFAULT)


def read_policies(places: Places) -> tuple[PolicyFile, PolicyFile]:
    """The organisation's file and the user's; an absent one limits nothing. Raises BadInput for one that can't be used."""
    return _read(places.organisation_policy), _read(places.user_policy)


def state_place(places: Places, said: str | None) -> str | None:
    """Where a run's state is to lie beside this home: as the organisation says, else as was `said`, else as the user's file.

    Raises Refused where somebody says another place than the organisation.
    """
    organisation, user = read_policies(places)
    if said is not None and organisation.state not in (None, said):
        raise Refused(
            f"{places.organisation_policy} keeps the state of runs at {organisation.state}.", hint="Leave --state out."
        )
    return organisation.state or said or user.state


def require_allowed(plan: Plan, rules: tuple[Rule, ...]) -> None:
    """For a plan that was made under other rules, or none. Raises Refused, naming file and key."""
    kept = in_force(rules, plan.request.overruled)
    for rule in kept:
        if (reason := refusal(rule, plan.offer)) is not None:
            raise Refused(f"{plan.offer.key} can't be rented: {reason}.", hint=rule.remedy)
    limit = cap(Budget(), kept, plan.offer)
    if limit is not None and limit.rule is not None and plan.cost.held_usd.p90 > limit.usd:
        from planner.search.told.notebook import enough_usd  # only for what is refused: it costs start-up time

        raise Refused(
            f"This plan may cost ${enough_usd(plan.cost.held_usd.p90)}, over ${limit.usd} ({limit.rule.place}).",
            hint=limit.rule.remedy,
        )


def capped(plan: Plan, rules: tuple[Rule, ...]) -> Request:
    """The plan's request with the lower of its own and the rules' limit in dollars, so that the deadline keeps both; and with
    the shorter lease. Raises Refused where a lease would end no bill.
    """
    kept = in_force(rules, plan.request.overruled)
    limit, hours = cap(plan.request.budget, kept, plan.offer), lease_hours(plan.request.budget, kept, plan.offer)
    if hours is not None and not keeps_lease(plan.offer.provider):
        provider = plan.offer.provider
        raise Refused(
            f"A lease ends no bill at {provider} before the deadline: a machine that is off costs on there.",
            hint="another --provider, or a plan without a lease",
        )
    max_usd = plan.request.budget.max_usd if limit is None else limit.usd
    budget = msgspec.structs.replace(plan.request.budget, max_usd=max_usd, lease_hours=hours)
    return msgspec.structs.replace(plan.request, budget=budget)


def narrowed(asked: Budget, plan: Plan, rules: tuple[Rule, ...]) -> Iterator[str]:
    """What of the job's own limits a rule has made smaller, in sentences with its file and its key."""
    kept = in_force(rules, plan.request.overruled)
    limit, hours = cap(asked, kept, plan.offer), lease_hours(asked, kept, plan.offer)
    if asked.lease_hours is not None and hours is not None and hours < asked.lease_hours:
        shortest = next(rule for rule in kept if rule.key == LEASE and rule.allows == hours)
        yield f"the lease is {hours:g} h, not {asked.lease_hours:g} h as asked ({shortest.place})"
    if asked.max_usd is not None and limit is not None and limit.rule is not None:
        yield f"the run may cost ${limit.usd:f} at most, not ${asked.max_usd:f} as asked ({limit.rule.place})"


def _rules(policy: PolicyFile, file: Path, *, may_be_overruled: bool) -> Iterator[Rule]:
    for key in KEYS:
        if (allows := getattr(policy, key)) is not None:
            allows = parse_lease(allows) if key == LEASE else allows
            unkept_at = leaseless() if key == LEASE else ()
            yield Rule(key=key, allows=allows, said_in=str(file), may_be_overruled=may_be_overruled, unkept_at=unkept_at)


def _read(file: Path) -> PolicyFile:
    if not exists(file):
        return PolicyFile()
    import tomllib  # only where there is a policy: it costs start-up time

    values: Any = None
    try:
        values = tomllib.loads(_shallow(read_text(file, max_bytes=MAX_POLICY_BYTES)), parse_float=Decimal)
        policy = msgspec.convert(values, PolicyFile)
    except FileUnusable as error:
        raise BadInput(f"{file} {error}.", hint="Without it nothing is planned: it may forbid it.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file} is not TOML: {error}.", hint=LINES) from None
    except RecursionError:
        raise BadInput(f"{file} is nested too deep: a policy has keys and lists of words.", hint=LINES) from None
    except msgspec.ValidationError as error:
        from planner.asking.mistyped import mistyped  # only for what is wrong: it costs start-up time

        wrong = mistyped(error, values, PolicyFile, written=_written)
        raise BadInput(f"{file}: {wrong.sentence}.", hint=wrong.hint) from None
    return _checked(policy, file)


def _check_lease(lease: str, file: Path) -> None:
    bounds = REQUEST_BOUNDS["budget.lease_hours"]
    try:
        hours = parse_lease(lease)
        if not bounds.admit(hours):
            raise BadInput(f"{file}: {complaint('lease', hours, bounds)}.", hint='write `lease = "2h"`')
        require_lease(hours)
    except ValueError as error:
        raise BadInput(f"{file}: {error}.", hint='write `lease = "2h"`') from None
    except RequestError as error:
        raise BadInput(f"{file}: {error.message}.", hint='write `lease = "2h"`') from None


def _shallow(text: str) -> str:
    """The same. Raises RecursionError for a line with a key of more parts than any policy has."""
    if any(QUOTED.sub("", line).count(".") > MAX_DEPTH for line in text.splitlines()):
        raise RecursionError
    return text


def _written(key: str, value: Any) -> str:
    """A line of TOML."""
    from planner.asking.instead import Bare  # only for what is wrong: it costs start-up time

    if isinstance(value, Bare):
        return f"{key} = {value}"
    return f"{key} = {msgspec.json.encode(str(value) if isinstance(value, str) else value).decode()}"


def _checked(policy: PolicyFile, file: Path) -> PolicyFile:
    bounds = REQUEST_BOUNDS["budget.max_usd"]
    for key in ("max_usd_per_hour", "max_usd_per_run"):
        if (usd := getattr(policy, key)) is not None and not bounds.admit(usd):
            raise BadInput(f"{file}: {complaint(key, usd, bounds)}.", hint=f"write `{key} = 20`")
    if policy.lease is not None:
        _check_lease(policy.lease, file)
    if policy.providers is None:
        return policy
    return msgspec.structs.replace(
        policy, providers=tuple(name.lower() for name in policy.providers)
    )  # as the catalog has them
