"""Whatever others have written into names, tags, labels and descriptions of an account: it is read as nobody's, and hides
nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.clouds.programs import digitalocean, gcp, hetzner, runpod
from provision.clouds.programs.accounts import aws_lists
from provision.clouds.programs.accounts.gcp_api import PROJECT_VARIABLES
from provision.clouds.programs.order import DEADLINE_TAG, INSTALLATION_TAG, KEPT_TAG, OWNER_TAG, PRICE_TAG, RUN_TAG, run_tags
from provision.clouds.programs.rest import Api, Json, as_owned
from provision.clouds.programs.tagging import label
from provision.seam import Answer, Owned, Resource
from tests.doubles.clouds import CLOUDS
from tests.provision.orders import LAUNCH

OURS = run_tags(CLOUDS["gcp"].offer, LAUNCH, "a1b2")
FACTS = (RUN_TAG, OWNER_TAG, INSTALLATION_TAG, DEADLINE_TAG, PRICE_TAG, KEPT_TAG)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800")
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(FACTS) | st.text(), inner))
TEXTS = st.text() | st.sampled_from(
    ("rentune", "rentune-", "rentune:", "rentune-kept", ":" * 9, "_", "_zz", "%", "\x1b[2J", "\n")
)
WRITTEN = (
    VALUES.map(json.dumps)
    | TEXTS
    | st.sampled_from(("null", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "1e999999", '{"rentune-run": 1e999999}', "{"))
)
TAGS = st.dictionaries(
    st.sampled_from(FACTS) | TEXTS, TEXTS | st.sampled_from(("1e999999", "-1", "NaN", "9999-99-99T00:00:00Z"))
)


class Lists(Api, frozen=True, kw_only=True):
    """An account's lists without its cloud."""

    there: dict[str, list[Json]] = {}

    def ask(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        name = path.rpartition("/")[2]
        return {"kind": "compute#list", "items": self.there.get(name, []), "pods": [], "networkVolumes": []} | {
            key: rows for key, rows in self.there.items() if path in ("/pods", "/network-volumes")
        }

    def rows(self, path: str, name: str, **query: str) -> Iterator[Json]:
        yield from self.there.get(name, ())


def lists(**there: list[Json]) -> Lists:
    unused: Callable[[Json], Any] = lambda _: ""  # noqa: E731 - no page follows, nothing is declined
    return Lists(cloud="", url="", token="", next_page=lambda _: False, reason=unused, there=there)


def require_seen(found: Owned) -> None:
    """All was seen, ours is among it, and every text of it can be shown and written."""
    assert found.complete is Answer.YES, found.message
    assert "r1" in {each.run_id for each in found.resources}
    require_shown(*found.resources, *found.kept)


def require_shown(*found: Resource) -> None:
    for each in found:
        assert msgspec.json.encode(each)
        assert f"{each.words}{each.region}{each.run_id}{each.owner}{each.installation}{each.name}".isprintable()
        assert each.usd_per_hour is None or len(f"{each.usd_per_hour:,.4f}") < 20


@given(WRITTEN | st.none())
def test_a_firewalls_description_at_google(written: str | None) -> None:
    """It is anybody's text; Google's rules have no labels."""
    environment = {PROJECT_VARIABLES[0]: "p"}
    link = "https://x/projects/p/global/firewalls/f"
    rules: list[Json] = [
        {"selfLink": link, "description": written},
        {"selfLink": link},
        {"selfLink": link, "description": json.dumps(OURS)},
    ]
    api = lists(firewalls=rules)
    require_seen(as_owned(lambda: api, lambda api: gcp._listed(api, environment, None)))


@given(st.dictionaries(TEXTS, TEXTS))
def test_labels_at_google_and_at_hetzner(labels: dict[str, str]) -> None:
    """One of ours beside any others."""
    ours = {label(key): label(value) for key, value in OURS.items()}
    server = {"id": 1, "status": "running", "created": "no moment", "labels": ours}
    servers = lists(servers=[server | {"labels": labels | {RUN_TAG: "x"}}, server])
    require_seen(as_owned(lambda: servers, lambda api: hetzner._listed(api, None)))
    assert set(gcp.from_labels(labels).values()) or not labels


@given(st.lists(TEXTS), TEXTS | st.none())
def test_words_and_names_at_digitalocean(words: list[str], name: str | None) -> None:
    """A tag of five facts is ours whoever wrote it, and then is read as any text may be."""
    droplet = {"id": 1, "name": name, "tags": words, "status": "active", "created_at": name}
    api = lists(droplets=[droplet, droplet | {"tags": None}, droplet | {"tags": [digitalocean.tag_of(OURS)]}])
    require_seen(as_owned(lambda: api, lambda api: digitalocean._listed(api, None)))


@given(WRITTEN | st.none(), TEXTS | st.none())
def test_environment_and_names_at_runpod(written: str | None, name: str | None) -> None:
    """A pod of no name, with an environment that is none, or a volume that somebody called as ours are."""
    pod = {"id": "p", "name": name, "status": "RUNNING", "createdAt": name}
    environments: tuple[Any, ...] = (None, [], {}, {runpod.TAGS_VARIABLE: written})
    ours = pod | {"name": "rentune-r1", "env": {runpod.TAGS_VARIABLE: json.dumps(OURS)}}
    others = [pod | {"env": each} for each in environments] + [pod | {"name": f"rentune-{name}", "env": environments[-1]}]
    volume = {"id": "v", "name": name, "size": 10, "dataCenter": "EU"}
    api = lists(pods=[*others, ours], networkVolumes=[volume, volume | {"name": f"rentune-kept {name} a b c"}])
    require_seen(as_owned(lambda: api, lambda api: runpod._listed(api, None)))


@given(TAGS)
@settings(max_examples=300)
def test_tags_at_aws_and_what_all_are_read_into(tags: dict[str, str]) -> None:
    row = {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()], "LaunchTime": "soon"}
    require_shown(aws_lists.resource_of("instance", "i-1", "eu", row))


def test_what_is_ours_is_seen_also_where_a_later_answer_can_not_be_read() -> None:
    """It is unknown whether that is all; what was read is there all the same, and is ended."""
    api = lists(droplets=[{"id": 1, "name": "", "tags": [digitalocean.tag_of(OURS)], "status": "active"}, {"id": 2}])
    found = as_owned(lambda: api, lambda api: digitalocean._listed(api, None))
    assert found.complete is Answer.UNKNOWN
    assert "could not be read" in found.message
    assert [each.run_id for each in found.resources] == ["r1"]


@pytest.mark.parametrize("written", ["{}", '{"rentune-run": 7}', '{"rentune-run": ["r1"]}', '{"rentune-run": null}'])
def test_a_description_that_names_no_run_is_not_ours(written: str) -> None:
    assert gcp.from_description(written) == {}


def test_what_is_no_text_among_our_tags_is_left_out() -> None:
    """The rest tells whose it is."""
    assert gcp.from_description(json.dumps({RUN_TAG: "r1", OWNER_TAG: 7})) == {RUN_TAG: "r1"}
