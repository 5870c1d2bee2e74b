"""Measures one row in a process of its own: python -m benchmarks.row NAME OUT.json --repeats N [--brief].

A row starts with nothing imported, cached or fragmented by another one, and takes what it started with it when it ends.
"""

import argparse
from pathlib import Path

import msgspec

from benchmarks.rows import ROWS
from engine.signals import exit_on_signals


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(ROWS))
    parser.add_argument("out", type=Path)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--brief", action="store_true")
    options = parser.parse_args()
    exit_on_signals()
    figures = ROWS[options.name].measure(options.repeats, options.brief)
    options.out.write_bytes(msgspec.json.encode(figures))


if __name__ == "__main__":
    main()
