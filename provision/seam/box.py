"""A machine that can be reached over SSH."""

from __future__ import annotations

import msgspec

from provision.seam.resource import Resource


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that can be reached over SSH, and the only host keys that are accepted from it."""

    run_id: str
    provider: str
    host: str
    port: int
    user: str
    host_key: str  # "ssh-ed25519 AAAA…", known before the first connection
    coming_host_key: str | None = None  # the one that it is about to take: until it is seen to have, either is accepted
    folder: str  # absolute path on the box; everything of ours lies below it
    python: str | None = None  # an interpreter whose installed stack has the lock's hash; None = build one
    cache: str | None = None  # folder on the box that outlives the run (stacks, converted bases); None = below `folder`
    stacks: str | None = None  # folder on the box for environments that outlive the run; None = below `cache`
    shares_files: bool = False  # True = the controller's files are there under their own paths: link, never copy
    replace_host_key: bool = False  # the key travelled in user data: swap it over the first pinned connection
    installs_driver: bool = False  # its first boot sees to NVIDIA's driver: set-up waits for what comes of that
    ours: bool = True  # False = a machine that is cleaned, never destroyed or powered off
    resources: tuple[Resource, ...] = ()
