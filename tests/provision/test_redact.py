"""One redactor: known secrets in every form in which they stand in a text, and keys by their shape; nothing else."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from provision.account.ledger import Ledger
from provision.charge.driving import drive
from provision.cli import call
from provision.clouds.engine.runner import EngineCommand
from provision.clouds.programs import CLOUDS
from provision.envelope.failure import tell
from provision.errors import ProvisionError
from provision.home.places import Places
from provision.prepare.inputs import find_base
from provision.prepare.opening import open_run
from provision.redact import HIDDEN, holds_secret, redact, secrets_of
from provision.seam import Answer, Owned, Teardown
from provision.ssh.keys import make_key
from provision.walk.edges import Edges
from provision.watch.progress import LineDisplay, LiveDisplay
from tests.doubles.displays import Quiet
from tests.doubles.provisioners import Failing
from tests.planner.builders import make_plan
from tests.provision.plans import tiny_files, tiny_plan

SECRETS = st.text(min_size=6, max_size=80).filter(lambda text: text.strip() and text not in HIDDEN and HIDDEN not in text)
TEXTS = st.text(max_size=200)

# Made up in the form that the makers give; none was ever valid.
KEYS = {
    "AWS key id": "AKIAIOSFODNN7EXAMPLE",
    "Hugging Face": "hf_" + "aB3" * 11 + "x",
    "GitHub": "ghp_" + "0aZ" * 12,
    "GitHub, fine-grained": "github_pat_" + "0a_Z" * 10,
    "GitLab": "glpat-" + "0aZ-" * 6,
    "OpenAI": "sk-proj-" + "0aZ_" * 10,
    "Slack": "xoxb-" + "123456789012-" * 2 + "abc",
    "Google": "AIza" + "0aZ_-" * 7,
    "RunPod": "rpa_" + "0AZ" * 10,
    "DigitalOcean": "dop_v1_" + "0a" * 32,
    "Pulumi": "pul-" + "0a" * 20,
    "JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF_123",
}
PHRASES = {
    "a Slack webhook": ("https://hooks.slack.com/services/T0/B0/abcdef", f"https://hooks.slack.com/{HIDDEN}"),
    "a Discord webhook": ("https://discord.com/api/webhooks/1/abc", f"https://discord.com/api/webhooks/{HIDDEN}"),
    "a password in a URL": ("https://ada:secret@example.com/x", f"https://{HIDDEN}@example.com/x"),
    "a header": ("Authorization: Bearer abcdefgh12345678", f"Authorization: Bearer {HIDDEN}"),
    "a presigned URL": ("https://b/x?X-Amz-Signature=0a0a0a&a=1", f"https://b/x?X-Amz-Signature={HIDDEN}&a=1"),
    "one of Google's": ("https://b/x?X-Goog-Signature=0a0a0a&a=1", f"https://b/x?X-Goog-Signature={HIDDEN}&a=1"),
    "one of Azure's": ("https://b/x?sv=1&sig=0a0a0a%3D&se=2", f"https://b/x?sv=1&sig={HIDDEN}&se=2"),
    "a line of a credentials file": ("aws_secret_access_key = wJalrXUtnFEMI/K7", f"aws_secret_access_key = {HIDDEN}"),
    "a JSON field": ('{"password": "abcdefgh", "a": 1}', f'{{"password": "{HIDDEN}", "a": 1}}'),
}


@given(secret=SECRETS, before=TEXTS, after=TEXTS)
def test_a_known_secret_never_leaves(secret: str, before: str, after: str) -> None:
    """Whatever stands around it."""
    assert secret not in redact(before + secret + after, [secret], environment={})


@pytest.mark.parametrize("form", [json.dumps, lambda s: json.dumps(s, ensure_ascii=False), lambda s: quote(s, safe="")])
@given(secret=SECRETS)
def test_nor_in_another_form(form: Callable[[str], str], secret: str) -> None:
    """In JSON, or in a URL."""
    written = form(secret)
    assert written.strip('"') not in redact(f"it said {written}.", [secret], environment={})


@given(secrets=st.lists(SECRETS, max_size=4), text=TEXTS)
def test_the_environments_secrets_are_known(secrets: list[str], text: str) -> None:
    """By the names of their variables."""
    environment = {f"THING_{number}_TOKEN": secret for number, secret in enumerate(secrets)}
    said = redact(text + " ".join(secrets), environment=environment)
    assert [secret for secret in secrets if secret in said] == []


@given(text=st.text(alphabet=st.characters(categories=["Ll", "Zs", "Nd"], exclude_characters="="), max_size=200))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    """Words, figures and spaces say nothing that has to be hidden."""
    assume("bearer" not in text and "basic" not in text)
    assert redact(text, environment={}) == text


@given(text=TEXTS, secret=SECRETS)
def test_a_second_look_changes_nothing(text: str, secret: str) -> None:
    """What goes through twice, as an error that becomes a receipt does, is hidden once."""
    assume(not any(part in HIDDEN for part in (secret, *secret.splitlines())))
    once = redact(text + secret, environment={})
    assert redact(once, environment={}) == once


def test_sentences_of_ours_stay_whole() -> None:
    """What looks like a key and is none."""
    for sentence in (
        "Run 20261126-040000-a1b2 already has instance i-0123456789abcdef0, key_pair rentune-r1.",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "12,345 tokens/s; token: unexpected end; api key is missing; https://host:8080/path",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJyNH0SLh7ZyzuaaNrF1Wn2Z3IqGzSPyvPgUHCwVvdYG test",
    ):
        assert redact(sentence, environment={}) == sentence


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_known_by_its_shape(name: str) -> None:
    """Nobody had to say that it is one."""
    assert redact(f"it said '{KEYS[name]}', and ended", environment={}) == f"it said '{HIDDEN}', and ended"


@pytest.mark.parametrize("name", PHRASES)
def test_what_stands_beside_a_secret_stays(name: str) -> None:
    """The reader still sees what was hidden."""
    text, shown = PHRASES[name]
    assert redact(text, environment={}) == shown


def test_a_private_key_is_hidden_whole_and_line_by_line(tmp_path: Path) -> None:
    """As PEM, as the one line that YAML makes of it, torn, and in single lines of it once it is known."""
    make_key(tmp_path / "key", comment="test")
    pem = (tmp_path / "key").read_text().strip()
    [_, line, *_] = pem.splitlines()
    for text in (pem, pem.replace("\n", "\\n"), pem[:120]):
        assert redact(f"a {text}", environment={}) == f"a {HIDDEN}"
    assert redact(f"console: {line}", [pem], environment={}) == f"console: {HIDDEN}"


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("AWS_SESSION_TOKEN", True),
        ("RUNPOD_API_KEY", True),
        ("PULUMI_CONFIG_PASSPHRASE", True),
        ("db_password", True),
        ("PGPASSWORD", True),
        ("MYSQL_PWD", True),
        ("SSHPASS", True),
        ("WANDB_APIKEY", True),
        ("SLACK_WEBHOOK_URL", True),
        ("STORAGE_CONNECTION_STRING", True),
        ("SENTRY_DSN", True),
        ("AWS_ACCESS_KEY_ID", False),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("SSH_AUTH_SOCK", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("PATH", False),
        ("PWD", False),
        ("OLDPWD", False),
        ("KEYBOARD", False),
    ],
)
def test_a_variables_name_tells(name: str, *, secret: bool) -> None:
    """Words between underscores; a file's name or an id is no secret."""
    assert holds_secret(name) == secret


def test_an_address_with_a_password_in_it_is_a_secret_whatever_its_name() -> None:
    assert secrets_of({"DATABASE_URL": "postgres://ada:s3cret@db/x", "HOMEPAGE_URL": "https://example.org:443/"}) == (
        "postgres://ada:s3cret@db/x",
    )


def test_every_clouds_secret_variables_are_known_by_their_names() -> None:
    """Else the row of a cloud and the redactor would disagree."""
    assert [name for row in CLOUDS.values() for name in row.secret_variables if not holds_secret(name)] == []


def test_what_is_too_short_is_no_secret() -> None:
    """Hiding it would garble every text."""
    assert redact("one 1 and the other", environment={"A_KEY": "1", "B_TOKEN": "the"}) == "one 1 and the other"
    assert secrets_of({"A_KEY": "abcdef", "A": "ghijkl"}) == ("abcdef",)


# ── every way out ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_error_of_ours_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the terminal, into receipt, ledger, log and alert: so it is clean from the start."""
    monkeypatch.setenv("CLOUD_TOKEN", "the-token-itself")
    error = ProvisionError("the cloud quoted the-token-itself", hint="not the-token-itself")
    assert (str(error), error.hint) == (f"the cloud quoted {HIDDEN}", f"not {HIDDEN}")


@pytest.mark.parametrize("debug", ["", "1"])
def test_nor_does_a_failure_that_nobody_foresaw(debug: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Sentence and traceback."""
    monkeypatch.setenv("CLOUD_TOKEN", "the-token-itself")
    monkeypatch.setenv("RENTUNE_DEBUG", debug)
    try:
        raise ValueError("the-token-itself")
    except ValueError as error:
        tell(error, [])
    said = capsys.readouterr().err
    assert HIDDEN in said
    assert "the-token-itself" not in said
    assert ("Traceback" in said) == bool(debug)


def test_nor_what_a_teardown_or_a_list_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made it: it goes to the ledger, and is read back clean where an older version wrote it."""
    monkeypatch.setenv("CLOUD_TOKEN", "the-token-itself")
    said = "it answered the-token-itself"
    assert Owned(resources=(), complete=Answer.UNKNOWN, message=said).message == f"it answered {HIDDEN}"
    written = f'{{"run_id": "r1", "verdict": "unknown", "resources": [], "message": "{said}"}}'
    assert msgspec.json.decode(written, type=Teardown).message == f"it answered {HIDDEN}"


def test_nor_a_note_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, and in the log of a supervisor."""
    monkeypatch.setenv("CLOUD_TOKEN", "the-token-itself")
    lines, live = io.StringIO(), io.StringIO()
    LineDisplay(lines).note("it said the-token-itself")
    LiveDisplay(
        Console(file=live, width=80), make_plan(), opened_at_s=0.0, deadline_at_s=lambda: 0.0, spent_usd=lambda: Decimal(0)
    ).note("it said the-token-itself")
    assert f"it said {HIDDEN}" in lines.getvalue()
    assert f"it said {HIDDEN}" in live.getvalue()


def test_nor_a_receipt_and_the_traceback_beside_it(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A fault of ours, or of a library, that quotes a secret; and what `logs` shows of the trainer's own words."""
    monkeypatch.setenv("CLOUD_TOKEN", "the-token-itself")
    plan, ledger = tiny_plan(*tiny_files(tmp_path)), Ledger(places.ledger)
    run_id = open_run(plan, find_base(plan.request.model), places=places, ledger=ledger, clock=time.time)
    receipt = drive(run_id, Edges(places, Quiet(), make=lambda _: Failing(ZeroDivisionError("the-token-itself"))))
    folder = places.run(run_id)
    assert HIDDEN in receipt.ending.message
    assert HIDDEN in folder.controller_log.read_text()
    assert [path for path in folder.root.rglob("*") if path.is_file() and b"the-token-itself" in path.read_bytes()] == []
    assert b"the-token-itself" not in places.ledger.read_bytes()

    folder.log.write_bytes(b"the-token-itself \xff\nand no newline")
    assert call(["logs", run_id]) == 0
    assert capfdbinary.readouterr().out.endswith(b"[hidden] \xff\nand no newline")


def test_nor_what_the_engine_leaves_in_its_files(tmp_path: Path) -> None:
    """Its output is cleaned once it has ended."""
    engine = tmp_path / "pulumi"
    engine.write_text('#!/bin/sh\n[ "$2" = version ] && echo v3.300.0 || echo "it said $CLOUD_TOKEN"\n')
    engine.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "CLOUD_TOKEN": "the-token-itself"}
    command = EngineCommand(engine, environment=environment, folder=tmp_path, deadline_s=60.0)
    command.run(["up"], str(tmp_path), {})
    assert (tmp_path / "001-up.out").read_text() == f"it said {HIDDEN}\n"
