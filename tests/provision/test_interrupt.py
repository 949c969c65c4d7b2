"""Signals: one moment is one signal, and a closed terminal need not stop anything."""

from __future__ import annotations

import signal

import pytest

from provision.home.interrupt import interruptible


def test_two_signals_at_one_moment_are_one() -> None:
    """The second must not cut short the orderly stop that the first began."""
    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)


def test_a_closed_terminal_stops_only_what_nobody_takes_over() -> None:
    """Answered otherwise, the process goes on; under nohup it is not even heard."""
    with interruptible({signal.SIGHUP: lambda: True}):
        signal.raise_signal(signal.SIGHUP)
    with interruptible({signal.SIGTERM: lambda: True}), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    with interruptible({signal.SIGHUP: lambda: False}), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
