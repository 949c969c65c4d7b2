"""What the tests of the cloud programs order."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from provision.clouds.programs.order import Image, Order, resource_name
from provision.seam import Launch

DEADLINE_AT_S: Final = dt.datetime(2026, 11, 25, 14, 0, tzinfo=dt.UTC).timestamp()
ORDER: Final = Order(
    name=resource_name("r1"),
    region="eu-central-1",
    instance_type="g5.xlarge",
    max_usd_per_hour=None,
    disk_gib=100,
    image=Image(owner="amazon", name="base *", user="ubuntu"),
    public_key="ssh-ed25519 AAAA test",
    host_key="ssh-ed25519 BBBB host",
    user_data="#cloud-config\nsecret: yes\n",
    deadline_at_s=DEADLINE_AT_S,
    allow_from=("203.0.113.7/32", "2001:db8::7/128"),
    tags={"rentune-run": "r1", "team": "nlp"},
)
LAUNCH: Final = Launch(
    run_id="r1",
    owner="ada",
    folder=Path("/nowhere"),
    public_key="ssh-ed25519 AAAA test",
    deadline_at_s=DEADLINE_AT_S,
    tags={"team": "nlp"},
)
