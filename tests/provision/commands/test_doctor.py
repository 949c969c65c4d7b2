"""What is there and what is missing, and what that means for each provider."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import msgspec
import pytest

from planner.saved import write_plan
from provision.account.ledger import Ledger
from provision.cli import call
from provision.clouds.permissions import permission_pages
from provision.clouds.programs import CLOUDS, aws, plugin_version
from provision.commands.doctor import remedy_lines
from provision.doctor import examine, provider_words, usable_providers
from provision.errors import Exit, MissingPart
from provision.extras import extra_with, install_command, installer, requirements
from provision.home.places import Places
from provision.parts import Finding, clouds_in_reach, needed_parts, require_parts
from provision.providers import known_providers, make_provisioner, providers_here
from tests.provision.plans import as_its_files_are, tiny_files, tiny_plan


def finding(part: str, state: str, serves: str) -> Finding:
    return Finding(part=part, state=state, detail="", serves=serves)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("missing", "stopped"),
    [
        ("everything", set(known_providers())),
        ("SSH", set(known_providers())),
        ("the local box", {"local"}),
        ("clouds", set(CLOUDS)),
        ("aws", {"aws"}),
        ("nothing of ours", set()),
    ],
)
def test_a_missing_part_stands_in_the_way_of_what_needs_it(missing: str, stopped: set[str]) -> None:
    """And of nothing else."""
    usable = usable_providers((finding("part", "missing", missing), finding("nice", "optional", "everything")))
    assert {name for name, ready in usable.items() if not ready} == stopped


def test_what_is_missing_comes_with_what_to_type(places: Places) -> None:
    """On a machine without programs and credentials every gap has its remedy."""
    findings = examine(places, {"HOME": str(places.home), "PATH": ""}, find=lambda _program: None)
    assert all(found.remedy for found in findings if found.state != "there")
    credentials = next(found for found in findings if found.part == "aws credentials")
    assert credentials.state == "missing"


def test_credentials_are_named_and_never_shown(places: Places) -> None:
    """Only the variable's name."""
    both = {"AWS_ACCESS_KEY_ID": "AKIASECRET", "AWS_SECRET_ACCESS_KEY": "SECRET"}
    findings = examine(places, {"HOME": str(places.home)} | both)
    assert any("AWS_ACCESS_KEY_ID" in found.detail for found in findings)
    assert not any("AKIASECRET" in found.detail for found in findings)


FLAWED = {
    "half a pair": ("aws", {"AWS_ACCESS_KEY_ID": "AKIA"}, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"),
    "a profile": ("aws", {"AWS_PROFILE": "werk"}, "AWS_PROFILE names 'werk', a profile that is in neither file of AWS's"),
    "a token's file": ("aws", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/no/token", "AWS_ROLE_ARN": "arn"}, "which is no file here"),
    "a key's file": ("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": "/no/key.json"}, "which is no file here"),
}


@pytest.mark.parametrize(("cloud", "said", "complaint"), FLAWED.values(), ids=FLAWED)
def test_what_is_named_and_opens_nothing_is_no_credential(
    bare: Places, monkeypatch: pytest.MonkeyPatch, cloud: str, said: dict[str, str], complaint: str
) -> None:
    """Told before anything is asked of that cloud, with what to set and what it must allow."""
    environment = {"HOME": str(bare.home), "PATH": ""} | said
    found = next(each for each in needed_parts(bare, environment) if each.part == f"{cloud} credentials")
    assert (found.state, complaint in found.detail) == ("missing", True)
    assert str(found.remedy).endswith(f"rentune doctor --permissions {cloud}.")
    assert cloud not in clouds_in_reach(environment)
    monkeypatch.setattr("provision.parts.needed_parts", lambda *_: (found,))
    with pytest.raises(MissingPart, match=complaint):
        require_parts(cloud, bare, environment)


def test_a_profile_is_looked_for_where_aws_has_it(bare: Places) -> None:
    """In either file, under either heading."""
    config = bare.home / ".aws/config"
    config.parent.mkdir(parents=True)
    config.write_text("[default]\nregion = eu-west-1\n[profile werk]\nsso_session = x\n")
    found = needed_parts(bare, {"HOME": str(bare.home), "PATH": "", "AWS_PROFILE": "werk"})
    assert next(each for each in found if each.part == "aws credentials").state == "there"


def test_a_damaged_ledger_is_named_with_its_line_and_stops_nobody(places: Places) -> None:
    """A run may be hidden in it; the next one can be rented all the same."""
    places.home.mkdir(parents=True)
    places.ledger.write_text('{"kind": "opened", "run_\n')
    found = next(each for each in examine(places, {"HOME": str(places.home)}) if each.part == "ledger")
    assert (found.state, found.detail) == ("optional", f"line 1 of {places.ledger} can't be read, so a run may be missing here")
    assert str(places.ledger) in str(found.remedy)


def test_the_rules_that_hold_here_are_shown_with_their_places(places: Places) -> None:
    """And a policy that can't be understood stands in the way of everything, with what was probably meant."""
    environment = {"HOME": str(places.home)}
    places.home.mkdir(parents=True)
    places.user_policy.write_text('providers = ["AWS", "gcp"]\nmax_usd_per_hour = 2.50\n')
    found = next(each for each in examine(places, environment) if each.part == "policy")
    ours = places.user_policy
    words = f"providers aws, gcp in {ours}; hosts data centre in the default; max_usd_per_hour 2.50 in {ours}"
    assert (found.state, set(found.detail.split("; "))) == ("there", set(words.split("; ")))
    places.user_policy.write_text('lease = "2h"\n')
    leased = next(each for each in examine(places, environment) if each.part == "policy")
    assert "(nothing is rented from" in leased.detail
    assert "gcp" in leased.detail
    places.user_policy.write_text('provider = ["aws"]\n')
    lost = next(each for each in examine(places, environment) if each.part == "policy")
    assert (lost.state, lost.serves, lost.remedy) == ("missing", "everything", 'did you mean "providers"?')


def test_looking_stores_nothing(places: Places) -> None:
    """Without --install it only looks."""
    examine(places, {"HOME": str(places.home)})
    assert not places.home.exists()


@pytest.mark.parametrize(
    ("make", "trouble"),
    [
        (lambda path: path.touch(), "not a folder"),
        (lambda path: path.symlink_to("nowhere"), "not a folder"),
        (lambda path: path.symlink_to("home"), "not a folder"),
        (lambda path: path.symlink_to('a"b'), "'\"' in its path"),
        (lambda path: (path / "ledger.jsonl").mkdir(parents=True), "ledger.jsonl is not a file"),
        (lambda path: path.parent.joinpath("home").touch(), "not a folder"),
    ],
    ids=["a file", "a broken link", "a circle", "a link to a name with a quote", "a folder as ledger", "below a file"],
)
def test_a_state_folder_that_cannot_be_used_stands_in_every_way(
    make: Callable[[Path], object], trouble: str, tmp_path: Path
) -> None:
    """Nothing can be rented without a ledger; the variable that names another folder is told."""
    home = tmp_path / "home"
    make(home)
    findings = examine(Places(home=home, cache=tmp_path), {"HOME": str(tmp_path)})
    folder = next(found for found in findings if found.part in ("state folder", "ledger") and found.state == "missing")
    assert trouble in folder.detail
    assert "RENTUNE_HOME=FOLDER" in str(folder.remedy)
    assert not any(usable_providers(findings).values())


LOOK = """
import os, sys
from pathlib import Path
from provision.doctor import examine
from provision.home.places import Places
findings = examine(Places(home=Path(sys.argv[1]) / "home", cache=Path(sys.argv[1])), os.environ)
print(next(f"{found.state} {found.detail}" for found in findings if found.part == "state folder"))
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "trouble"), [("ro", "on a file system that is read-only"), ("size=4k", "no space left")], ids=["ro", "full"]
)
def test_a_file_system_that_takes_nothing_is_told(tmp_path: Path, options: str, trouble: str) -> None:
    """Whoever asks: root may write everywhere else. The mount is of this test's own namespace."""
    fill = f"mount -t tmpfs -o {options} none {tmp_path}; head -c 4096 /dev/zero > {tmp_path}/full; "
    look = shlex.join([sys.executable, "-c", LOOK, str(tmp_path)])
    done = subprocess.run(["unshare", "--mount", "sh", "-c", fill + look], capture_output=True, text=True, check=True)
    assert done.stdout == f"missing {tmp_path}/home: {trouble}\n"


def test_what_to_type_is_said_once_and_whole(places: Places) -> None:
    """A command that brings several parts names them all."""
    needs = (
        msgspec.structs.replace(finding("one", "missing", "aws"), remedy="get both"),
        finding("there", "there", "aws"),
        msgspec.structs.replace(finding("two", "missing", "aws"), remedy="get both"),
    )
    assert list(remedy_lines(needs)) == ["To get what is missing, in this order:", "  one, two:", "    get both"]
    assert list(remedy_lines(needs[1:2])) == []


def test_the_packages_of_an_extra_are_those_of_the_installed_metadata() -> None:
    """No second list: its requirement words, without those of other extras."""
    named = ["click<9", "boto3>=1.40; extra == 'aws'", 'pulumi-aws<8,>=7.51; extra == "aws"', "torch>=2; extra == 'trace'"]
    assert requirements("aws", named) == ("boto3>=1.40", "pulumi-aws<8,>=7.51")
    assert {re.split("[<>=]", words)[0] for words in requirements("aws", requires("rentune") or ())} >= {"pulumi-aws", "boto3"}


def test_a_package_is_brought_by_the_smallest_extra_that_has_it() -> None:
    """By its import name, whatever module of it was asked for; a stranger is brought by none."""
    named = requires("rentune") or ()
    names = ("paramiko", "pulumi.automation", "pulumi_aws", "boto3", "torch", "click", "stranger", "")
    assert [extra_with(name, named) for name in names] == ["provision", "provision", "aws", "aws", "trace", None, None, None]


def test_a_package_is_installed_by_what_is_there(tmp_path: Path) -> None:
    """By pip where the environment has it, else uv: a checkout's own, or the one on PATH."""
    assert installer(has_pip=True, checkout=tmp_path, python="/env/python") == ("/env/python", "-m", "pip", "install")
    assert installer(has_pip=False, checkout=tmp_path, python="/env/python")[:3] == ("uv", "pip", "install")
    (tmp_path / ".uv" / "bin").mkdir(parents=True)
    (own := tmp_path / ".uv" / "bin" / "uv").touch()
    found = installer(has_pip=False, checkout=tmp_path, python="/env/python")
    assert found == (str(own), "pip", "install", "--python", "/env/python")


def test_looking_for_pip_leaves_setuptools_importable() -> None:
    """Its finder takes the question for an installation; peft's BOFT imports it later in the same process."""
    asked = "from provision.extras import installer_here; installer_here(); import setuptools"
    subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True)


def test_the_command_can_be_pasted_into_a_shell() -> None:
    """Quoted, since < and > mean files there; it names this environment's Python."""
    words = shlex.split(install_command("aws"))
    assert sys.executable in words
    assert any(word.startswith("pulumi-aws") and ">=" in word for word in words)


@pytest.fixture
def bare(tmp_path: Path) -> Places:
    """A machine where no engine was built."""
    return Places(home=tmp_path / "home", cache=tmp_path / "cache")


def test_the_clouds_plugin_is_listed_beside_the_engine(bare: Places) -> None:
    """Of exactly the version that the installed SDK wants; --install fetches it."""
    findings = examine(bare, {"HOME": str(bare.home), "PATH": ""})
    plugin = next(found for found in findings if found.part == "aws plugin")
    assert (plugin.state, plugin.remedy) == ("missing", "rentune doctor --install")
    assert plugin_version(aws.PLUGIN) in plugin.detail


def test_a_cloud_without_an_sdk_of_its_own_needs_a_key_and_the_engine(bare: Places) -> None:
    """RunPod is spoken to by this package, so there is neither an SDK nor a plugin to get; the key is named, never shown."""
    findings = examine(bare, {"HOME": str(bare.home), "PATH": ""})
    own = {found.part: found for found in findings if found.serves == "runpod"}
    assert {part: (found.state, found.detail) for part, found in own.items()} == {
        "runpod credentials": ("missing", "not in the environment")
    }
    named = examine(bare, {"HOME": str(bare.home), "PATH": "", "RUNPOD_API_KEY": "rpa_SECRET"})
    [credentials] = [found for found in named if found.serves == "runpod"]
    assert (credentials.state, credentials.detail) == ("there", "named by RUNPOD_API_KEY; not tried")


def test_a_plan_says_what_is_not_ready_here(bare: Places) -> None:
    """Beside what the provider has met so far; the local box, whose parts are all there, says nothing."""
    stranger = {"HOME": str(bare.home), "PATH": ""}
    here = providers_here(bare, stranger)
    assert here["aws"].missing == ("Pulumi engine", "plugin", "credentials")
    customer = providers_here(bare, stranger | {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"})
    assert customer["aws"].missing == ("Pulumi engine", "plugin")
    assert here["local"] == known_providers()["local"]


def test_a_missing_part_is_told_before_a_run_is_opened(
    places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved plan for a cloud whose engine is not built: code 2, what to type, and no run in the ledger."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("RENTUNE_CACHE", str(tmp_path / "cache"))
    plan = as_its_files_are(tiny_plan(*tiny_files(tmp_path)))
    rented = {"provider": "aws", "region": "us-east-1", "instance_type": "g6.xlarge", "hosts": "data centre"}
    offer = msgspec.structs.replace(plan.offer, **rented)
    saved = tmp_path / "plan.json"
    saved.write_text(write_plan(msgspec.structs.replace(plan, offer=offer)))
    assert call(["run", str(saved), "--yes"]) == Exit.REFUSED
    assert "aws is not ready here: Pulumi engine: version" in (told := capsys.readouterr().err)
    assert "Hint: rentune doctor --install" in told
    assert not Ledger(places.ledger).runs()


def test_what_is_there_is_not_asked_for(bare: Places) -> None:
    """Credentials hide in more places than are looked at: whether they are good is the cloud's to say."""
    require_parts("local", bare)
    with pytest.raises(MissingPart, match=r"aws is not ready here: Pulumi engine.*; aws plugin: .*; aws credentials") as told:
        require_parts("aws", bare, {"PATH": "", "HOME": str(bare.home)})
    assert str(told.value.hint).startswith("rentune doctor --install. Then the rest: ")


@pytest.mark.parametrize(
    ("cloud", "token"), [("runpod", "RUNPOD_API_KEY"), ("hetzner", "HCLOUD_TOKEN"), ("digitalocean", "DIGITALOCEAN_TOKEN")]
)
def test_a_token_that_can_only_be_in_the_environment_is_asked_for_before_anything(
    monkeypatch: pytest.MonkeyPatch, bare: Places, cloud: str, token: str
) -> None:
    """Nobody who was not asked to may wait for a cloud that will not answer."""
    rest = tuple(each for each in needed_parts(bare, {token: "a token"}) if each.part == f"{cloud} credentials")
    lacking = tuple(each for each in needed_parts(bare, {}) if each.part == f"{cloud} credentials")
    monkeypatch.setattr("provision.parts.needed_parts", lambda *_: lacking)
    with pytest.raises(MissingPart, match=f"{cloud} is not ready here: {cloud} credentials: not in the environment") as told:
        require_parts(cloud, bare, {})
    assert token in str(told.value.hint)
    monkeypatch.setattr("provision.parts.needed_parts", lambda *_: rest)
    require_parts(cloud, bare, {})


def test_every_provider_says_what_it_has_met(places: Places) -> None:
    """No provider is called run for real before it was."""
    words = provider_words(examine(places, {"HOME": str(places.home)}))
    assert set(words) == set(known_providers())
    assert "run for real" not in " ".join(words.values())


def test_every_known_provider_has_a_provisioner_of_that_name(places: Places) -> None:
    """The table of names and the code behind it agree."""
    for name in known_providers():
        made = make_provisioner(name, places=places, environment={"PATH": ""}, user_at_host="me@127.0.0.1")
        assert made.name == name
    assert not Path(places.home / "boxes").exists()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_an_account_must_allow_is_printed_without_a_checkout(cloud: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word the pages of docs/permissions; a single one can be written into a file as it is."""
    pages = permission_pages(cloud)
    assert pages
    assert call(["doctor", "--permissions", cloud]) == Exit.OK
    said = capsys.readouterr().out
    assert all(page.read_text() in said for page in pages)
    assert len(pages) > 1 or said == pages[0].read_text()


def test_a_wheel_s_own_pages_come_before_a_checkout_s(tmp_path: Path) -> None:
    """And what is read stands before what is copied."""
    wheel, checkout = tmp_path / "wheel", tmp_path / "checkout"
    for folder in (wheel, checkout):
        folder.mkdir()
        for name in ("aws.json", "aws.md", "gcp.yaml"):
            (folder / name).touch()
    assert permission_pages("aws", (wheel, checkout)) == (wheel / "aws.md", wheel / "aws.json")
    assert permission_pages("gcp", (tmp_path / "none", checkout)) == (checkout / "gcp.yaml",)
    assert permission_pages("gcp", (tmp_path / "none",)) == ()


def test_pages_are_asked_for_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither with a run nor of a cloud that nobody knows."""
    assert call(["doctor", "--permissions", "aws", "--install"]) == Exit.REFUSED
    assert call(["doctor", "--permissions", "awz"]) == Exit.REFUSED
    assert 'did you mean "aws"?' in capsys.readouterr().err
