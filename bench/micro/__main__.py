"""`python -m bench.micro`: run all of them; further words go to pytest, `-k hashing` for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

_OPTIONS = ("group-by=group", "sort=min", "columns=min,median,iqr,rounds", "name=short", "max-time=0.5")


def main() -> int:
    options = [f"--benchmark-{each}" for each in _OPTIONS]
    return pytest.main([str(Path(__file__).parent), *options, *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
