"""Foreign exceptions become typed ends."""

from __future__ import annotations

import errno

import pytest

from remote.contract import EndReason
from remote.ends import ended


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), EndReason.DISK_FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), EndReason.DISK_FULL),
        (RuntimeError("[enforce fail] write failed: No space left on device (os error 28)"), EndReason.DISK_FULL),
        (MemoryError(), EndReason.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), EndReason.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), EndReason.OUT_OF_MEMORY),
        (ValueError("something else"), EndReason.CRASHED),
        (OSError(errno.EACCES, "Permission denied"), EndReason.CRASHED),
    ],
)
@pytest.mark.fault("F17", tier="code")
def test_each_kind_of_failure_has_its_reason_and_one_sentence(error: Exception, reason: EndReason) -> None:
    end = ended(error, "train")
    assert end.reason == reason
    assert "during train" in str(end)
    assert "\n" not in str(end)


@pytest.mark.torch
def test_torchs_own_word_for_a_full_card_is_known() -> None:
    import torch

    assert ended(torch.OutOfMemoryError("CUDA out of memory."), "probe").reason == EndReason.OUT_OF_MEMORY
