"""Read one question, write one answer."""

from __future__ import annotations

import sys

from remote.contract import decode, encode
from remote.measure import measure
from remote.measured import StepAsked


def main() -> int:
    """`python -m remote.measure < asked.json > measured.json`"""
    asked = decode(sys.stdin.buffer.read(), StepAsked)
    sys.stdout.buffer.write(encode(measure(asked)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
