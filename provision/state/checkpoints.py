"""Where a run's state lies in object storage its trainer may put its checkpoints there as well."""

from __future__ import annotations

from provision.aboard.kept import KeptCheckpoints
from provision.places import RunFolder
from provision.state.link import read_link
from provision.store.bucket import Bucket


def kept_of(run_id: str, folder: RunFolder) -> KeptCheckpoints | None:
    """Of a run that is at home; None where its state lies here alone. Raises as `read_link` and `Bucket` do."""
    link = read_link(folder)
    return None if link is None else KeptCheckpoints(Bucket(link.url), run_id)
