"""Where a run's state lies in object storage its trainer may put its checkpoints there as well."""

from __future__ import annotations

from provision.aboard.kept import KeptCheckpoints
from provision.home.places import RunFolder
from provision.state.book import RUNS
from provision.state.link import read_link
from provision.store.bucket import Bucket


def kept_folder(run_id: str) -> str:
    """Where in the store a run's checkpoints lie."""
    return f"{RUNS}/{run_id}/checkpoints"


def kept_of(run_id: str, folder: RunFolder) -> KeptCheckpoints | None:
    """Of a run that is at home; None where its state lies here alone. Raises as `read_link` and `Bucket` do."""
    link = read_link(folder)
    return None if link is None else KeptCheckpoints(Bucket(link.url), kept_folder(run_id))
