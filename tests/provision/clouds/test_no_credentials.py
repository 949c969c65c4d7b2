"""Where there are no credentials nobody can be asked, now or later in the same process: it is said at once, at every cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.clouds.engine.here import EngineHere
from provision.clouds.patience import Patience
from provision.clouds.programs import CLOUDS, load_cloud
from provision.clouds.programs.accounts import aws_api
from provision.clouds.provisioner import PulumiProvisioner
from provision.errors import NoCredentials
from provision.home.clocks import Clocks
from provision.home.places import Places
from provision.seam import Answer, Claim

RUN = "20261127-120000-abcd"
OF_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which no cloud's own chain finds any; AWS's looks into the process's."""
    aws_api._session.cache_clear()
    for name in OF_AWS:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield {"HOME": str(tmp_path)}
    aws_api._session.cache_clear()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_teardown_without_credentials_is_over_at_once_and_what_is_left_is_not_known(
    cloud: str, nowhere: dict[str, str], tmp_path: Path
) -> None:
    """It waited for ten minutes, for an answer that could not come."""
    slept_s: list[float] = []
    patience = Patience(clocks=Clocks(wall=lambda: 1e9, steady=lambda: sum(slept_s), sleep=slept_s.append))
    places = Places(home=tmp_path, cache=tmp_path)
    provisioner = PulumiProvisioner(cloud, load_cloud(cloud), EngineHere(places, None, nowhere), patience=patience)
    region = "eu-central-1" if cloud == "aws" else "*"
    teardown = provisioner.destroy(Claim(run_id=RUN, provider=cloud, region=region, folder=tmp_path / "run"))
    assert (slept_s, str(teardown.verdict)) == ([], "unknown")
    assert not load_cloud(cloud).owned(region, RUN, nowhere).asked


@pytest.mark.parametrize("profile", [None, "nobody's"])
def test_at_aws_whoever_has_none_is_told_so_by_kind(nowhere: dict[str, str], profile: str | None) -> None:
    environment = nowhere | ({"AWS_PROFILE": profile} if profile else {})
    with pytest.raises(NoCredentials, match="AWS did not grant the list of regions"):
        load_cloud("aws").regions(environment)
    owned = load_cloud("aws").owned("eu-central-1", RUN, environment)
    assert (owned.complete, owned.asked) == (Answer.UNKNOWN, False)
