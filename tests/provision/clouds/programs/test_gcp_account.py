"""What is Google Cloud's alone in asking for what is ours: a limit that deletes, disks, zones that are silent, credentials."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from provision.clouds.programs import gcp
from provision.clouds.programs.accounts import gcp_api
from provision.clouds.programs.order import DEADLINE_FORMAT, run_tags
from provision.clouds.programs.rest import Api, Json
from provision.errors import NoCredentials, ProvisionError, Refused
from provision.seam import Answer, Resource
from tests.doubles.clouds import CLOUDS
from tests.doubles.emulator import Emulator
from tests.doubles.world.gcp import PROJECT
from tests.provision.orders import LAUNCH

CLOUD = "gcp"
ZONE = f"/projects/{PROJECT}/zones/us-central1-b"
TAGS = run_tags(CLOUDS["gcp"].offer, LAUNCH, "a1b2")
IMAGE = f"projects/{gcp.GPU_IMAGE.owner}/global/images/{gcp.GPU_IMAGE.name}-v1"


@pytest.fixture
def at(running: Emulator) -> Emulator:
    running.reset()
    return running


def rent(at: Emulator, limit_s: float) -> int:
    """An instance that Compute Engine deletes in so many seconds; its number."""
    until = dt.datetime.fromtimestamp(time.time() + limit_s, dt.UTC).strftime(DEADLINE_FORMAT)
    limit = {"terminationTime": until, "instanceTerminationAction": "DELETE"}
    body = {
        "name": "rentune-r1",
        "machineType": "g2-standard-4",
        "disks": [{"autoDelete": True, "initializeParams": {"sourceImage": IMAGE, "diskSizeGb": "20"}}],
        "scheduling": {"provisioningModel": "STANDARD", "automaticRestart": False, "onHostMaintenance": "TERMINATE"} | limit,
        "metadata": {"items": []},
        "labels": gcp.labels_of(TAGS),
        "tags": {"items": []},
    }
    operation = gcp_api.connect(at.environment).ask("POST", f"{ZONE}/instances", body)
    return int(operation["name"].rpartition("-")[2])


def listed(at: Emulator) -> tuple[Resource, ...]:
    owned = gcp.owned("us-central1", "r1", at.environment)
    assert owned.complete is Answer.YES, owned.message
    return owned.resources


def test_at_its_limit_an_instance_is_gone_and_so_is_its_bill(at: Emulator) -> None:
    """Nobody asks for it, and the machine need not know."""
    rent(at, 3600)
    assert [resource.kind for resource in listed(at)] == ["instance"]
    at.control.advance(3601)
    assert listed(at) == ()
    paid = at.control.bill_usd()
    at.control.advance(3600)
    assert at.control.bill_usd() == paid


def test_the_limit_is_read_back_from_compute_engine(at: Emulator) -> None:
    """The moment, and what it does then: one that only stops a machine ends no bill."""
    rent(at, 3600)
    [layer] = gcp.guards(listed(at)[0], at.environment)
    assert (layer.there, layer.says) == (Answer.YES, "Compute Engine deletes it")
    assert layer.strikes_at_s == pytest.approx(time.time() + 3600, abs=30)
    for scheduling, does in (
        ({"terminationTime": "2026-11-26T08:00:00Z", "instanceTerminationAction": "STOP"}, "STOP"),
        ({}, "nothing"),
        ({"terminationTime": "soon", "instanceTerminationAction": "DELETE"}, "DELETE"),
    ):
        layer = gcp.limit_of(scheduling)
        assert (layer.there, layer.strikes_at_s) == (Answer.NO, None)
        assert layer.says.endswith(f"Compute Engine does: {does}")


def test_one_that_has_switched_itself_off_is_deleted_by_no_limit(at: Emulator) -> None:
    """Which is why the timer on the machine strikes after the limit."""
    at.control.power_off(rent(at, 3600))
    at.control.advance(7200)
    [instance] = listed(at)
    assert instance.bills


def test_a_limit_too_near_is_not_taken(at: Emulator) -> None:
    with pytest.raises(ProvisionError, match="terminationTime"):
        rent(at, 20)


def test_a_disk_that_nothing_uses_any_more_is_ours_to_end(at: Emulator) -> None:
    """While an instance uses it, it ends with the instance."""
    rent(at, 3600)
    gcp_api.connect(at.environment).ask("POST", f"{ZONE}/disks", {"name": "left", "labels": gcp.labels_of(TAGS)})
    instance, disk = listed(at)
    assert (disk.kind, disk.bills, disk.region, disk.owner) == ("disk", True, "us-central1", "ada")
    for resource in (instance, disk):
        gcp.destroy_stray(resource, at.environment)
    assert at.control.standing() == []


def test_the_boot_log_is_what_the_serial_port_had_to_say(at: Emulator) -> None:
    rent(at, 3600)
    assert gcp.console(listed(at)[0], at.environment) == "rentune-r1 says nothing here\n"


def test_whoever_has_an_address_of_version_6_alone_is_told_so(at: Emulator) -> None:
    rule = {"name": "r", "description": json.dumps(TAGS), "network": "global/networks/default", "sourceRanges": ["0.0.0.0/0"]}
    gcp_api.connect(at.environment).ask("POST", f"/projects/{PROJECT}/global/firewalls", rule | {"allowed": []})
    with pytest.raises(Refused, match="IPv4 only"):
        gcp.admit("us-central1", "r1", ("2001:db8::7/128",), at.environment)


class Said(Api, frozen=True, kw_only=True):
    """An API that has said this."""

    page: Json

    def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        return self.page


def rows_of(page: Json) -> list[Json]:
    unused: Callable[[Json], str] = lambda _: ""  # noqa: E731 - nothing is declined
    api = Said(cloud="Google Cloud", url="", token="", next_page=lambda page: "nextPageToken" in page, reason=unused, page=page)
    return list(gcp_api.rows(api, {"GOOGLE_PROJECT": "p"}, "instance"))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"kind": "compute#x", "items": {"zones/a": {"warning": {"code": "UNREACHABLE"}}}}, "could not list all.*UNREACHABLE"),
        ({"kind": "compute#x", "unreachables": ["zones/a"]}, "could not list all.*zones/a"),
        ({"kind": "compute#x", "warning": {"code": "UNREACHABLE"}}, "could not list all"),
        ({}, "with no list"),
        ({"kind": "compute#x", "nextPageToken": "again"}, "has no end"),
    ],
)
def test_a_list_that_lacks_a_zone_is_not_a_short_one(page: Json, words: str) -> None:
    with pytest.raises(ProvisionError, match=words):
        rows_of(page)


def test_an_empty_list_of_zones_is_empty() -> None:
    page = {"kind": "compute#x", "items": {"zones/a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}}
    assert rows_of(page) == []


def test_without_a_project_nobody_is_asked() -> None:
    owned = gcp.owned("us-central1", None, {gcp_api.TOKEN_VARIABLE: "t"})
    assert (owned.complete, owned.asked) == (Answer.UNKNOWN, False)
    assert owned.message == "Google Cloud asks for a project. Set GOOGLE_PROJECT."


# ── credentials ────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def issuer(*, status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    """Who gives tokens, and what was asked of it."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            answer = {"access_token": "given", "expires_in": 3600} if status == 200 else {"error": "invalid_grant"}
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/token", asked
        server.shutdown()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


def of_account(private_key: str, url: str) -> str:
    account = {"client_email": "a@p.iam.gserviceaccount.com", "private_key": private_key, "token_uri": url}
    return json.dumps({"type": "service_account", **account})


def test_a_service_accounts_file_gives_a_token_that_is_asked_for_once(private_key: str, tmp_path: Path) -> None:
    with issuer() as (url, asked):
        (file := tmp_path / "account.json").write_text(of_account(private_key, url))
        for _ in range(2):
            assert gcp_api.connect({"GOOGLE_APPLICATION_CREDENTIALS": str(file)}).token == "given"
        assert len(asked) == 1
        assert b"assertion=" in asked[0]


def test_what_lies_where_gcloud_puts_it_is_found(private_key: str, tmp_path: Path) -> None:
    with issuer() as (url, _):
        file = tmp_path / gcp_api.FILE
        file.parent.mkdir(parents=True)
        file.write_text(of_account(private_key, url))
        assert gcp_api.connect({"HOME": str(tmp_path)}).token == "given"


def test_a_persons_own_login_is_understood() -> None:
    """Not more than that: whom it asks for a token is Google, whatever the file says."""
    person = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
    assert gcp_api._credentials(json.dumps(person)).refresh_token == "r"


def test_credentials_may_stand_in_the_variable_itself(private_key: str) -> None:
    with issuer() as (url, _):
        assert gcp_api.connect({"GOOGLE_CREDENTIALS": of_account(private_key, url)}).token == "given"


def test_credentials_that_are_no_good_are_one_sentence(private_key: str) -> None:
    """And their words are not repeated."""
    with issuer(status=400) as (url, _), pytest.raises(ProvisionError, match=r"could not be used \(RefreshError\)"):
        gcp_api.connect({"GOOGLE_CREDENTIALS": of_account(private_key, url)})
    for text in ("{", json.dumps({"type": "external_account"}), json.dumps({"no": "type"})):
        with pytest.raises(ProvisionError, match="could not be used") as caught:
            gcp_api.connect({"GOOGLE_CREDENTIALS": text})
        assert "external" not in str(caught.value)
    with pytest.raises(NoCredentials, match="asks for a token"):
        gcp_api.connect({"HOME": "/nonexistent"})


def test_credentials_that_are_there_and_cannot_be_read_now_may_be_read_later(tmp_path: Path) -> None:
    """A teardown tries again then; without any it would try in vain."""
    with pytest.raises(ProvisionError, match=r"could not be read \(IsADirectoryError\)") as caught:
        gcp_api.connect({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path)})
    assert not isinstance(caught.value, NoCredentials)
