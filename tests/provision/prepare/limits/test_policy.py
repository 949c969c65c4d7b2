"""policy.toml: two files that are read before anything is planned, and refuse in one sentence where they can't be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from catalogs.catalog import read_catalog
from catalogs.hardware import Offer
from planner.asking.policy import Rule
from planner.asking.request import Budget, RequestError
from planner.plan import Plan
from provision.account.ledger import Ledger
from provision.account.lines import Opened
from provision.cli import call, rentune
from provision.clouds.programs import CLOUDS
from provision.errors import BadInput, Exit, MissingPart, Refused
from provision.home.places import Places, read_places
from provision.prepare.inputs import find_base
from provision.prepare.limits.policy import DEFAULT, LINES, capped, narrowed, read_rules, require_allowed, state_place
from provision.prepare.opening import open_run
from tests.provision.plans import tiny_files, tiny_plan

RENTED = Offer(
    provider="aws",
    region="eu-central-1",
    instance_type="g5.xlarge",
    purchase="on_demand",
    gpu="A10G",
    num_gpus=Decimal(1),
    hosts="data centre",
    usd_per_hour=Decimal("1.006"),
    source="test",
)


@pytest.fixture
def office(places: Places, tmp_path: Path) -> Places:
    """A machine that its organisation has a say in."""
    return msgspec.structs.replace(places, organisation=tmp_path / "etc")


def say(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def rented(folder: Path, **request: object) -> Plan:
    """A plan on a rented machine."""
    return msgspec.structs.replace(tiny_plan(*tiny_files(folder), **request), offer=RENTED)  # type: ignore[arg-type]


def test_without_a_file_only_community_hosts_are_refused(office: Places) -> None:
    """And that default can be set aside for one job."""
    assert read_rules(office) == (DEFAULT,)
    assert (DEFAULT.allows, DEFAULT.may_be_overruled) == ("data centre", True)


def test_both_files_hold_at_once(office: Places) -> None:
    """The organisation's first; only the user's can be overruled; a word on hosts takes the default's place."""
    say(office.organisation_policy, 'providers = ["AWS", "gcp"]\nmax_usd_per_run = 50\n')
    say(office.user_policy, 'hosts = "community"\nregions = ["eu-*"]\nmax_usd_per_hour = 2.5\n')
    theirs, ours = str(office.organisation_policy), str(office.user_policy)
    assert read_rules(office) == (
        Rule(key="providers", allows=("aws", "gcp"), said_in=theirs, may_be_overruled=False),
        Rule(key="max_usd_per_run", allows=Decimal(50), said_in=theirs, may_be_overruled=False),
        Rule(key="regions", allows=("eu-*",), said_in=ours, may_be_overruled=True),
        Rule(key="hosts", allows="community", said_in=ours, may_be_overruled=True),
        Rule(key="max_usd_per_hour", allows=Decimal("2.5"), said_in=ours, may_be_overruled=True),
    )


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ('provider = ["aws"]', 'there is no key "provider"', 'did you mean "providers"?'),
        ('hosts = "datacenter"', 'hosts can\'t be "datacenter"', 'did you mean "data centre"?'),
        (
            "max_usd_per_hour = true",
            "max_usd_per_hour must be an amount",
            "write an amount alone, such as `max_usd_per_hour = 12.50`",
        ),
        ("max_usd_per_run = -1", "max_usd_per_run is -1 and must be at least 0", "write `max_usd_per_run = 20`"),
        ("max_usd_per_run = nan", "max_usd_per_run is NaN and must be at least 0", "write `max_usd_per_run = 20`"),
        ("max_usd_per_run = 1e400", "max_usd_per_run is 1E+400 and must be at least 0", "write `max_usd_per_run = 20`"),
        ('providers = "aws"', "providers must be a list, not text", 'write a list: `providers = ["aws"]`'),
        ("regions = [4]", "regions.0 must be text, not a whole number (4)", 'write a list: `regions = ["4"]`'),
        ("state = 4", "state must be text, not a whole number (4)", 'write text, in quotes: `state = "4"`'),
        ('lease = "1s"', "a lease of 1 second may end while its box still boots", 'write `lease = "2h"`'),
        ('lease = "5m"', "a lease of 5 minutes may end while its box still boots", 'write `lease = "2h"`'),
        ('lease = "soon"', '"soon" is not a time such as "2h"', 'write `lease = "2h"`'),
        ('lease = "999999h"', "lease is 999999 and must be", 'write `lease = "2h"`'),
        ("lease = true", "lease must be text, not true or false (true)", 'write text, in quotes: `lease = "2h"`'),
        ('lease = "1:30"', '"1:30" is not read as a length of time: 1 h 30 min is "90m"', 'write `lease = "2h"`'),
        ("lease = 2", "lease must be text, not a whole number (2)", 'write text, in quotes: `lease = "2"`'),
        ("providers = [", "is not TOML", LINES),
        ("providers = " + "[" * 5_000, "is nested too deep", LINES),
        (".".join("a" * 30_000) + " = 1", "is nested too deep", LINES),  # took tomllib 35 s
    ],
)
def test_a_file_that_can_not_be_understood_stops_everything(office: Places, text: str, sentence: str, hint: str) -> None:
    """A policy that is passed over is none. The sentence names file, key and nearest word."""
    say(office.organisation_policy, text)
    with pytest.raises(BadInput) as caught:
        read_rules(office)
    assert str(caught.value).startswith(str(office.organisation_policy))
    assert sentence in str(caught.value)
    assert caught.value.hint == hint


def test_a_folder_in_the_files_place_is_not_an_absent_file(office: Places) -> None:
    office.organisation_policy.mkdir(parents=True)
    with pytest.raises(BadInput, match="is a folder"):
        read_rules(office)


def test_where_the_files_lie(tmp_path: Path) -> None:
    """The organisation's place is moved by nothing; the user's follows RENTUNE_HOME, else the XDG folder."""
    plain = read_places({"HOME": str(tmp_path)})
    assert plain.user_policy == tmp_path / ".config" / "rentune" / "policy.toml"
    moved = read_places({"HOME": str(tmp_path), "RENTUNE_HOME": "/elsewhere", "XDG_CONFIG_HOME": "/config"})
    assert moved.user_policy == Path("/elsewhere/policy.toml")
    assert {each.organisation_policy for each in (plain, moved)} == {Path("/etc/rentune/policy.toml")}


# ── at the door of `run` ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_plan_that_was_saved_under_other_rules_is_looked_at_again(office: Places, tmp_path: Path) -> None:
    """`run plan.json` searches nothing, so it asks the rules itself."""
    say(office.organisation_policy, 'regions = ["us-*"]\n')
    with pytest.raises(Refused, match=r"aws/eu-central-1/g5.xlarge/on_demand can't be rented: not in us-\*") as caught:
        require_allowed(rented(tmp_path), read_rules(office))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f"else whoever keeps {office.organisation_policy} can change it")


def test_a_saved_plan_that_costs_too_much_is_refused(office: Places, tmp_path: Path) -> None:
    """In whole cents that would pay for it, as `plan` says what it needs."""
    say(office.user_policy, "max_usd_per_run = 0.001\n")
    with pytest.raises(Refused, match=r"may cost \$0.03, over \$0.001 \(max_usd_per_run in "):
        require_allowed(rented(tmp_path / "a"), read_rules(office))
    require_allowed(rented(tmp_path / "b", overruled=("max_usd_per_run",)), read_rules(office))


def test_an_organisations_rule_is_not_overruled_by_a_saved_plan(office: Places, tmp_path: Path) -> None:
    say(office.organisation_policy, 'regions = ["us-*"]\n')
    with pytest.raises(RequestError, match="can't be overruled"):
        require_allowed(rented(tmp_path, overruled=("regions",)), read_rules(office))


def test_the_deadline_keeps_the_policys_dollars(office: Places, tmp_path: Path) -> None:
    """The limit on a run becomes the run's own budget, unless that is lower."""
    say(office.user_policy, "max_usd_per_run = 5\n")
    rules = read_rules(office)
    assert capped(rented(tmp_path / "a"), rules).budget.max_usd == Decimal(5)
    assert capped(rented(tmp_path / "b", budget=Budget(max_usd=Decimal(2))), rules).budget.max_usd == Decimal(2)


def test_a_lease_that_an_organisation_demands_is_every_rented_runs(office: Places, tmp_path: Path) -> None:
    """The longest; one that the user demands of themselves can be set aside. Where it would end no bill nothing is rented."""
    say(office.organisation_policy, 'lease = "2h"\n')
    say(office.user_policy, 'lease = "30m"\n')
    rules = read_rules(office)
    assert capped(rented(tmp_path / "a"), rules).budget.lease_hours == 0.5
    assert capped(rented(tmp_path / "b", overruled=("lease",)), read_rules(places_of(office))).budget.lease_hours is None
    assert capped(rented(tmp_path / "c", budget=Budget(lease_hours=0.25)), rules).budget.lease_hours == 0.25
    assert capped(tiny_plan(*tiny_files(tmp_path / "d")), rules).budget.lease_hours is None, "a machine of one's own"
    there = rented(tmp_path / "e")
    there = msgspec.structs.replace(there, offer=msgspec.structs.replace(there.offer, provider="hetzner"))
    with pytest.raises(Refused, match="A lease ends no bill at hetzner before the deadline"):
        capped(there, rules)


def test_what_a_rule_makes_smaller_of_a_job_s_own_limits_is_said(office: Places, tmp_path: Path) -> None:
    """With the file and the key, so that nobody takes two hours for three; what it leaves is not told."""
    say(office.organisation_policy, 'lease = "2h"\nmax_usd_per_run = 10\n')
    rules, file = read_rules(office), office.organisation_policy
    plan = rented(tmp_path / "a")
    wide, tight = (Budget(max_usd=Decimal(usd), lease_hours=hours) for usd, hours in ((20, 3.0), (5, 1.0)))
    assert list(narrowed(wide, plan, rules)) == [
        f"the lease is 2 h, not 3 h as asked (lease in {file})",
        f"the run may cost $10 at most, not $20 as asked (max_usd_per_run in {file})",
    ]
    assert list(narrowed(tight, plan, rules)) == []
    assert list(narrowed(Budget(), plan, rules)) == []


def test_a_lease_s_rule_knows_whom_it_rules_out(office: Places) -> None:
    """As every provisioner's row has it; no other rule does."""
    say(office.organisation_policy, 'lease = "2h"\nproviders = ["gcp", "runpod"]\n')
    rules = {rule.key: rule for rule in read_rules(office)}
    assert set(rules["lease"].unkept_at) == {name for name, row in CLOUDS.items() if not row.ends_early}
    assert rules["providers"].unkept_at == ()


def test_plan_says_that_the_policy_s_lease_refused_offers(places: Places) -> None:
    """Not "by this version": the file says so, and can be changed."""
    say(places.user_policy, 'providers = ["runpod", "gcp"]\nlease = "2h"\n')
    told = " ".join(planned().split())
    assert "where a lease ends no bill" in told
    assert "--overrule-policy lease" in told
    assert "none of them can be run by this version" not in planned("--provider", "gcp")


def test_no_prices_are_asked_for_of_a_provider_that_a_policy_forbids(places: Places) -> None:
    """They would not be planned with."""
    asks = "import prices that you see there"
    assert asks in " ".join(planned("--provider", "hetzner").split())
    say(places.user_policy, 'providers = ["runpod"]\n')
    told = " ".join(planned("--provider", "hetzner").split())
    assert "refused by providers runpod in" in told
    assert asks not in told


def places_of(office: Places) -> Places:
    """The same machine, without an organisation."""
    return msgspec.structs.replace(office, organisation=office.home / "none")


def test_what_was_overruled_stands_in_the_ledger(places: Places, tmp_path: Path) -> None:
    """On the line that is on the disk before the first dollar."""
    plan = rented(tmp_path, overruled=("hosts",))
    ledger = Ledger(places.ledger)
    open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=lambda: 0.0)
    (opened,) = [line for line in ledger.lines() if isinstance(line, Opened)]
    assert opened.overruled == ("hosts",)


# ── on the command line ────────────────────────────────────────────────────────────────────────────────────────────


def planned(*words: str) -> str:
    done = CliRunner().invoke(rentune, ["plan", "--model", "7b", "--explain", *words], catch_exceptions=False)
    return done.output


def test_plan_says_which_rule_refused_what(places: Places) -> None:
    """File and key stand in the table of what was refused; the option sets the rule aside."""
    say(places.user_policy, 'providers = ["vultr"]\n')
    told = planned()
    assert "not from vultr (providers in" in told
    assert "--overrule-policy providers" in planned("--json")
    assert "not from vultr" not in planned("--overrule-policy", "providers")


@pytest.mark.parametrize(("name", "meant"), [("hetzer", "hetzner"), ("amazon", "aws"), ("runpood", "runpod")])
def test_a_misspelt_provider_of_a_policy_is_told_with_the_nearest(places: Places, name: str, meant: str) -> None:
    """It forbids everything, and every row said only that it is not from there."""
    say(places.user_policy, f'providers = ["{name}"]\n')
    assert f"no provider of the catalog is called '{name}'; did you mean {meant}" in " ".join(planned().split())


def test_a_misspelt_key_is_told_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", "--model", "7b", "--overrule-policy", "provider"]) == 2
    assert 'did you mean "providers"?' in capsys.readouterr().err


def test_a_policy_that_can_not_be_read_stops_plan(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, one sentence."""
    say(read_places(os.environ).user_policy, "nonsense")
    assert call(["plan", "--model", "7b"]) == 2
    assert "is not TOML" in capsys.readouterr().err


def test_no_community_host_is_planned_unless_asked_for() -> None:
    """The cheapest hours of the market are other people's machines."""
    assert "salad" not in planned("--top", "30")
    assert "salad" in planned("--top", "30", "--overrule-policy", "hosts", "--provider", "salad")


def test_nothing_is_rented_without_consent(places: Places, tmp_path: Path) -> None:
    """Where nobody can be asked, and --yes was not said, nothing is opened; not even on this machine."""
    model, data = tiny_files(tmp_path)
    words = ["run", "--model", str(model), "--data", str(data), "--provider", "local", "--seq-len", "64"]
    done = CliRunner().invoke(rentune, words)
    assert isinstance(done.exception, Refused)
    assert "Nobody is there to agree to the plan." in str(done.exception)
    assert not places.ledger.exists()


@pytest.mark.parametrize("cloud", [name for name, row in CLOUDS.items() if row.run_for_real_on is None])
def test_a_cloud_that_was_never_met_for_real_is_called_so_before_the_question(cloud: str, tmp_path: Path) -> None:
    """By the command itself, beside the plan. One whose prices no list has can't be planned with, and so is never agreed to."""
    model, data = tiny_files(tmp_path)
    words = ["run", "--model", str(model), "--data", str(data), "--provider", cloud, "--seq-len", "64"]
    nobody_asked = ["--allow-from", "203.0.113.7/32"] if CLOUDS[cloud].firewall else []  # else it is told its own address
    done = CliRunner().invoke(rentune, [*words, *nobody_asked])
    assert isinstance(done.exception, Refused | MissingPart)
    is_priced = any(offer.provider == cloud for offer in read_catalog().offers)
    planned = re.search("Nobody is there to agree|is not ready here", str(done.exception)) is not None
    assert (planned, f"Note: this version was never run against the real {cloud}" in done.stdout) == (is_priced, is_priced)


def test_what_is_not_ready_is_told_before_anybody_is_asked(places: Places, tmp_path: Path) -> None:
    """--yes would not help: the cloud's plugin was never fetched."""
    _, data = tiny_files(tmp_path)
    words = ["run", "--model", "HuggingFaceTB/SmolLM2-135M", "--data", str(data), "--provider", "aws", "--seq-len", "64"]
    done = CliRunner().invoke(rentune, [*words, "--revision", "0" * 40])
    assert isinstance(done.exception, MissingPart)
    assert str(done.exception).startswith("aws is not ready here: ")
    assert not places.ledger.exists()


@pytest.mark.root
def test_the_organisations_file_binds_whoever_types(tmp_path: Path) -> None:
    """In its real place, which here lies on this machine's /etc for these commands alone."""
    (tmp_path / "policy.toml").write_text('providers = ["vultr"]\n')
    for folder in ("upper", "work"):
        (tmp_path / folder).mkdir()
    laid = f"mount -t overlay policy -o lowerdir=/etc,upperdir={tmp_path}/upper,workdir={tmp_path}/work /etc"
    script = f'{laid} && mkdir -p /etc/rentune && cp {tmp_path}/policy.toml /etc/rentune && exec "$@"'
    code = "import sys; from provision.cli import main; sys.exit(main())"

    def planned_there(*words: str) -> subprocess.CompletedProcess[str]:
        plan = [sys.executable, "-c", code, "plan", "--model", "7b", "--json", *words]
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", *plan], capture_output=True, text=True, check=False
        )

    bound = planned_there()
    assert "not from vultr (providers in /etc/rentune/policy.toml)" in bound.stdout, bound.stderr
    assert "whoever keeps /etc/rentune/policy.toml can change it" in bound.stdout
    refused = planned_there("--overrule-policy", "providers")
    assert refused.returncode == Exit.REFUSED
    assert "providers in /etc/rentune/policy.toml can't be overruled" in refused.stdout


def test_the_organisation_says_where_the_state_of_runs_lies(office: Places) -> None:
    """Its word comes before the user's, and no other place can be said beside it."""
    assert state_place(office, None) is None
    say(office.user_policy, 'state = "s3://mine"\n')
    assert (state_place(office, None), state_place(office, "s3://said")) == ("s3://mine", "s3://said")
    say(office.organisation_policy, 'state = "s3://ours/runs"\n')
    assert (state_place(office, None), state_place(office, "s3://ours/runs")) == ("s3://ours/runs", "s3://ours/runs")
    with pytest.raises(Refused, match="keeps the state of runs at s3://ours/runs"):
        state_place(office, "s3://said")
