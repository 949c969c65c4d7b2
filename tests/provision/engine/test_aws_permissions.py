"""docs/permissions/aws.json is enough for a whole life of a box, and nothing of it is too much, as far as moto enforces IAM."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from provision.clouds.programs import aws
from provision.clouds.programs.order import KEPT_TAG, RUN_TAG, KeptVolume, resource_name
from provision.errors import ProvisionError
from provision.seam import Answer, Resource
from tests.doubles import emulator
from tests.doubles.bench import PUBLIC_KEY, Bench, set_up
from tests.doubles.clouds import CLOUDS
from tests.doubles.plugins.aws import AWS
from tests.doubles.plugins.wire import decode, encode
from tests.doubles.services.iam import Account
from tests.provision.clouds.programs.test_aws_program import run
from tests.provision.orders import ORDER

PERMISSIONS: Final = Path(__file__).parents[3] / "docs" / "permissions"
STATEMENTS: Final[list[dict[str, Any]]] = json.loads((PERMISSIONS / "aws.json").read_text())["Statement"]
ROW: Final = CLOUDS["aws"]
REGION: Final = ROW.offer.region
HERE: Final = "198.51.100.9/32"


def actions(*, proven: bool) -> list[str]:
    """Of the statements that these tests prove, or of those that they can't."""
    chosen = [each for each in STATEMENTS if each["Sid"].startswith("NotProven") != proven]
    return sorted({action for statement in chosen for action in statement["Action"]})


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """An emulated cloud of its own: while IAM is enforced nobody else can use it."""
    with emulator.started() as moto:
        account = Account(moto)
        yield account
        account.close()


# ── what the program and its plugin ask for, call by call ──────────────────────────────────────────────────────────


class Denied(Exception):
    """`str(error)` says who may not do what."""


def life_of_a_box(run_id: str, environment: Mapping[str, str]) -> None:
    """Everything that is ever asked of EC2, by the code that asks it: the plugin's double and the program's own half."""
    ec2 = aws.connect(REGION, environment)
    tags = ORDER.tags | {RUN_TAG: run_id}
    order = msgspec.structs.replace(
        ORDER,
        name=resource_name(run_id),
        public_key=PUBLIC_KEY,
        tags=tags,
        volume=KeptVolume(tags=tags | {KEPT_TAG: "models"}, size_gib=1),
    )
    inputs = {type.rsplit(":", 1)[-1]: decode(encode(each)) for type, each in run(order).inputs.items()}
    kinds = {type.rsplit(":", 1)[-1]: kind for type, kind in AWS.kinds.items()}
    assert ROW.image
    image = AWS.lookups["aws:ec2/getAmi:getAmi"](
        ec2, {"owners": [ROW.image.owner], "filters": [{"name": "name", "values": [ROW.image.name]}]}
    )
    zones = AWS.lookups["aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"](
        ec2, {"locationType": "availability-zone", "filters": [{"name": "instance-type", "values": ["g5.xlarge"]}]}
    )["locations"]
    assert f"{REGION}a" in zones
    ids = {"KeyPair": kinds["KeyPair"].create(ec2, inputs["KeyPair"])}
    ids["SecurityGroup"] = kinds["SecurityGroup"].create(ec2, inputs["SecurityGroup"])
    box = inputs["Instance"] | {"ami": image["id"], "vpcSecurityGroupIds": [ids["SecurityGroup"]]}
    ids["Instance"] = kinds["Instance"].create(ec2, box)
    zone = (kinds["Instance"].read(ec2, ids["Instance"]) or {})["availabilityZone"]
    ids["Volume"] = kinds["Volume"].create(ec2, inputs["Volume"] | {"availabilityZone": zone})
    joined = {"instanceId": ids["Instance"], "volumeId": ids["Volume"]}
    kinds["VolumeAttachment"].create(ec2, inputs["VolumeAttachment"] | joined)
    for kind, id in ids.items():
        assert kinds[kind].read(ec2, id)

    assert re.fullmatch(r"\d{12}", aws.account(environment)), "whose credentials these are needs no action"
    assert REGION in aws.regions(environment)
    listed(run_id, environment)
    aws.admit(REGION, run_id, (HERE,), environment)
    aws.quotas(REGION, aws.GPU_QUOTAS[:1], environment)
    aws.console(Resource(kind="instance", id=ids["Instance"], region=REGION), environment)
    aws.guards(Resource(kind="instance", id=ids["Instance"], region=REGION), environment)

    for kind in ("Instance", "SecurityGroup", "KeyPair"):
        kinds[kind].delete(ec2, ids[kind])
    aws.destroy_stray(Resource(kind="volume", id=ids["Volume"], region=REGION), environment)
    assert listed(run_id, environment) == ()


def listed(run_id: str, environment: Mapping[str, str]) -> tuple[Resource, ...]:
    owned = aws.owned(REGION, run_id, environment)
    if owned.complete is not Answer.YES:
        raise Denied(owned.message)
    return owned.resources


def test_the_policy_is_enough(account: Account) -> None:
    """Every call of a box's life is allowed by what is called proven."""
    life_of_a_box("whole", account.user(actions(proven=True)))


@pytest.mark.parametrize("action", actions(proven=True))
def test_nothing_of_it_is_too_much(action: str, account: Account) -> None:
    """Without it that life ends, with this very action in the reason: so the list is what is called, no more and no less."""
    user = account.user(set(actions(proven=True)) - {action})
    with pytest.raises(Exception, match=rf"{action.removeprefix('ec2:')}\b") as caught:
        life_of_a_box(f"without-{action.removeprefix('ec2:')}", user)
    assert re.search("UnauthorizedOperation|AccessDenied|not authorized", str(caught.value))


# ── the same through the engine ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def user(account: Account) -> dict[str, str]:
    """Somebody who may do what the policy says."""
    return account.user(actions(proven=True))


@pytest.fixture
def enforced_bench(tmp_path: Path, engine: Path, account: Account) -> Bench:
    return set_up(tmp_path / "bench", engine, account.emulator)


@pytest.mark.engine
def test_a_box_lives_and_ends_under_exactly_this_policy(enforced_bench: Bench, user: dict[str, str]) -> None:
    """Up, listed, another address admitted, its console read, destroyed, nothing left."""
    bench = enforced_bench
    provisioner = bench.provisioner(type(bench.provisioner()), teardown_s=30.0, **user)
    provisioner.up(ROW.offer, bench.launch)
    mine = provisioner.owned(bench.launch).resources  # whoever lacked an action has left things of other runs in the account
    assert {resource.kind for resource in mine} == {"instance", "key_pair", "security_group", "disk"}
    aws.admit(REGION, bench.run_id, (HERE,), bench.environment | user)
    provisioner.console(bench.launch)

    assert provisioner.destroy(bench.launch).verdict == "destroyed"
    assert provisioner.owned(bench.launch).nothing


@pytest.mark.engine
def test_what_is_not_allowed_is_one_sentence(enforced_bench: Bench, account: Account) -> None:
    """It says where the list is; nothing is left, and nothing was bought."""
    bench = enforced_bench
    user = account.user(set(actions(proven=True)) - {"ec2:RunInstances"})
    provisioner = bench.provisioner(type(bench.provisioner()), teardown_s=30.0, **user)
    launch = msgspec.structs.replace(bench.launch, run_id="r2")
    with pytest.raises(ProvisionError, match="the account may not do what a run needs") as caught:
        provisioner.up(ROW.offer, launch)
    assert "Traceback" not in str(caught.value)
    assert provisioner.destroy(launch).verdict == "destroyed"


# ── the page ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_names_every_action_that_is_not_proven() -> None:
    """And no other; each with its reason."""
    page = (PERMISSIONS / "aws.md").read_text()
    rows = re.findall(r"^\| `(ec2:\w+)` \| .+ \|$", page, re.MULTILINE)
    assert sorted(rows) == actions(proven=False)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda statement: statement["Sid"])
def test_whatever_makes_changes_or_ends_needs_our_tag(statement: dict[str, Any]) -> None:
    """Somebody else's machines in the account can't be touched with it; looking is free."""
    looks = all(action.startswith(("ec2:Describe", "servicequotas:Get")) for action in statement["Action"])
    assert looks or "Condition" in statement or statement["Sid"] == "UseWhatIsThere"
    assert "ec2:*" not in statement["Action"]
    assert not [action for action in statement["Action"] if action.startswith(("iam:", "sts:"))]
