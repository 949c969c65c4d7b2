"""In another account than the run's its box is not listed, and bills on: that is unknown, never gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from provision.clouds.engine.here import EngineHere
from provision.clouds.engine.stack import State
from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.programs.accounts.marks import mark_of
from provision.clouds.provisioner import PulumiProvisioner
from provision.clouds.whose import is_id, other_account_words, same_account
from provision.errors import ProvisionError
from provision.home.places import Places, RunFolder
from provision.seam import Answer, Box, Claim
from tests.doubles.emulator import Emulator, started
from tests.provision.clouds.test_cloud import ACCOUNT, BOX, MADE, PaperStack, Sky, with_stack

ANOTHER: Final = "account-2"
KEY, ANOTHER_KEY = mark_of("a-key"), mark_of("another-key")


# ── who one is ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (ACCOUNT, ACCOUNT, Answer.YES),
        (ACCOUNT, ANOTHER, Answer.NO),
        (KEY, KEY, Answer.YES),
        (KEY, ANOTHER_KEY, Answer.UNKNOWN),
        (ACCOUNT, KEY, Answer.UNKNOWN),
        (KEY, ACCOUNT, Answer.UNKNOWN),
        (None, ACCOUNT, Answer.UNKNOWN),
        (ACCOUNT, None, Answer.UNKNOWN),
        (None, None, Answer.UNKNOWN),
    ],
)
def test_two_ids_tell_two_accounts_and_two_keys_nothing(then: str | None, now: str | None, same: Answer) -> None:
    assert same_account(then, now) is same


def test_a_mark_is_no_key() -> None:
    assert re.fullmatch("key:[0-9a-f]{16}", KEY)
    assert "a-key" not in KEY
    assert not is_id(KEY)


@pytest.mark.parametrize("name", CLOUDS)
def test_one_sentence_says_whose_it_is_and_what_chooses_that_account(name: str) -> None:
    said = other_account_words(name, "r1", ACCOUNT, ANOTHER)
    assert said is not None
    for words in (CLOUDS[name].title, CLOUDS[name].account_is, ACCOUNT, ANOTHER, "rentune down r1"):
        assert words in said
    assert set(CLOUDS[name].account_variables) & {*CLOUDS[name].credential_variables, "GOOGLE_PROJECT"}
    assert other_account_words(name, "r1", ACCOUNT, None) is None


# ── what is done in another, and where nobody knows ────────────────────────────────────────────────────────────────


@pytest.fixture
def sky() -> Sky:
    """Nothing is listed there, whoever has it."""
    return Sky()


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    """Of a run with an engine's state at home."""
    claim = Claim(run_id="r1", provider="aws", region="here", folder=tmp_path / "run", account=ACCOUNT)
    (RunFolder(claim.folder).engine / "state").mkdir(parents=True)
    return claim


def on_paper(sky: Sky, tmp_path: Path, stack: PaperStack) -> PulumiProvisioner:
    return with_stack(sky, tmp_path, stack, name="aws")


def made() -> PaperStack:
    return PaperStack(State(), before=State(resources=(MADE,)))


def keeps_state(claim: Claim) -> bool:
    return (RunFolder(claim.folder).engine / "state").exists()


def test_in_another_account_nothing_is_ended_and_nothing_is_gone(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    sky.whose, stack = ANOTHER, made()
    asked = on_paper(sky, tmp_path, stack)
    end = asked.destroy(claim)
    assert (end.verdict, end.command) == ("unknown", "rentune down r1")
    assert ACCOUNT in end.message
    assert ANOTHER in end.message
    assert stack.asked == []
    assert keeps_state(claim)


def test_nor_is_a_box_seen_to_be_lost_there_or_its_gate_opened(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    """Else another would be bought beside it."""
    sky.whose = ANOTHER
    asked = on_paper(sky, tmp_path, made())
    owned = asked.owned(claim)
    assert owned.complete is Answer.UNKNOWN
    assert not owned.lacks(a_box())
    with pytest.raises(ProvisionError, match=ANOTHER):
        asked.readmit(claim)


def a_box() -> Box:
    return Box(run_id="r1", provider="aws", host="", port=22, user="", host_key="", folder="/", resources=(BOX,))


def test_in_its_own_an_empty_list_is_believed(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    """Somebody has ended it in the console, or it has ended itself."""
    asked = on_paper(sky, tmp_path, made())
    assert asked.owned(msgspec.structs.replace(claim, known=frozenset({"i-1"}))).lacks(a_box())
    assert asked.destroy(claim).verdict == "destroyed"
    assert not keeps_state(claim)


DOUBTS: Final[dict[str, dict[str, Any]]] = {
    "an older line": {"account": None},
    "another key of a cloud that tells no id": {"account": KEY},
}


@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS)
def test_where_nobody_knows_an_empty_list_is_no_end_of_what_is_known(
    sky: Sky, claim: Claim, tmp_path: Path, doubt: dict[str, Any]
) -> None:
    """By the ledger, or by the state, which would lose its ids to answers that they are gone; the same the second time."""
    sky.whose, claim = ANOTHER_KEY, msgspec.structs.replace(claim, **doubt)
    by_state, by_ledger = made(), PaperStack(State())
    for stack, known in ((by_state, frozenset[str]()), (by_ledger, frozenset({"i-1"}))):
        asked, known_claim = on_paper(sky, tmp_path, stack), msgspec.structs.replace(claim, known=known)
        for _ in range(2):
            assert asked.destroy(known_claim).verdict == "unknown"
            assert "destroy" not in stack.asked
            assert keeps_state(claim)
    assert not on_paper(sky, tmp_path, by_ledger).owned(msgspec.structs.replace(claim, known=frozenset({"i-1"}))).nothing


def test_what_is_shown_there_is_proof_and_ended(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    """A key was renewed: the run's tag is found, so this is its account."""
    sky.whose, claim = ANOTHER_KEY, msgspec.structs.replace(claim, account=KEY, known=frozenset({"i-1"}))
    sky.resources = {BOX}
    assert on_paper(sky, tmp_path, made()).destroy(claim).verdict == "destroyed"
    assert sky.resources == set()


def test_so_is_what_a_list_that_lags_shows_only_at_the_second_look(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    sky.whose, claim = ANOTHER_KEY, msgspec.structs.replace(claim, account=KEY, known=frozenset({"i-1"}))
    sky.resources, sky.hidden_until_s = {BOX}, sky.now_s + 30.0
    assert on_paper(sky, tmp_path, made()).destroy(claim).verdict == "destroyed"
    assert sky.resources == set()


def test_where_nothing_is_known_to_have_been_nothing_is_in_doubt(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    """An order that was declined is over, and the next offer may be asked for."""
    sky.whose, claim = None, msgspec.structs.replace(claim, account=None)
    assert on_paper(sky, tmp_path, PaperStack(State())).destroy(claim).verdict == "destroyed"


def test_past_a_deadline_that_its_cloud_surely_keeps_it_is_gone_in_whatever_account(
    sky: Sky, claim: Claim, tmp_path: Path
) -> None:
    sky.whose = None
    claim = msgspec.structs.replace(claim, account=None, known=frozenset({"i-1"}), gone_by_s=sky.now_s + 600.0)
    assert on_paper(sky, tmp_path, made()).destroy(claim).verdict == "unknown"
    sky.now_s += 600.0
    assert on_paper(sky, tmp_path, made()).owned(claim).nothing
    assert on_paper(sky, tmp_path, made()).destroy(claim).verdict == "destroyed"


def test_by_a_list_that_can_not_be_seen_the_state_is_not_used_up(sky: Sky, claim: Claim, tmp_path: Path) -> None:
    sky.whose, stack = None, made()
    sky.silent = {"here"}
    assert on_paper(sky, tmp_path, stack).destroy(msgspec.structs.replace(claim, account=None)).verdict == "unknown"
    assert "destroy" not in stack.asked


# ── each cloud ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=CLOUDS)
def two(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Emulator, dict[str, str]]]:
    """An account of a cloud, and the environment of another's credentials."""
    name = request.param
    with ExitStack() as held:
        mine = held.enter_context(started(name))
        monkeypatch.setenv("MOTO_ACCOUNT_ID", "210987654321")
        theirs = held.enter_context(started(name))
        yield mine, another_account(theirs)


def another_account(at: Emulator) -> dict[str, str]:
    """What leads into it, of a cloud of our own with another token and project."""
    if at.cloud == "aws":
        return at.environment
    at.control.set(token="a-secret-of-another", account=ANOTHER)
    changed = {"HCLOUD_TOKEN", "DIGITALOCEAN_TOKEN", "RUNPOD_API_KEY", "GOOGLE_OAUTH_ACCESS_TOKEN"} & at.environment.keys()
    project = {"GOOGLE_PROJECT": "another-project"} if at.cloud == "gcp" else {}
    return at.environment | dict.fromkeys(changed, "a-secret-of-another") | project


def test_each_cloud_tells_two_accounts_apart_and_no_secret(two: tuple[Emulator, dict[str, str]]) -> None:
    """By an id, but for Hetzner, where two tokens of one project would look so as well."""
    mine, theirs = two
    cloud = load_cloud(mine.cloud)
    here, there = cloud.account(mine.environment), cloud.account(theirs)
    assert here == cloud.account(mine.environment)
    assert same_account(here, there) is (Answer.UNKNOWN if mine.cloud == "hetzner" else Answer.NO)
    for secret in CLOUDS[mine.cloud].secret_variables:
        assert mine.environment.get(secret, "no such") not in str(here)


@pytest.mark.parametrize("name", ["digitalocean", "runpod"])
def test_a_key_that_may_not_ask_who_it_is_of_is_known_by_its_mark(name: str) -> None:
    with started(name) as at:
        at.control.set(scopes=[])
        cloud = load_cloud(name)
        assert cloud.account(at.environment) == mark_of(at.environment[CLOUDS[name].account_variables[0]])


@pytest.mark.parametrize("name", CLOUDS)
def test_without_credentials_nobody_is_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that is no failure: an order fails by itself, and a look says what it lacks."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = PulumiProvisioner(
        name,
        load_cloud(name),
        EngineHere(
            Places(home=tmp_path / "home", cache=tmp_path / "cache"),
            None,
            {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)},
        ),
    )
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert asked.account() is None
