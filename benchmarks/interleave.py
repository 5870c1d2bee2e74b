"""Interleaved repeats: contenders take turns, so that what changes on the machine meanwhile meets all of them alike."""

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def interleave(contenders: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Run every contender once per repeat; each repeat begins with another one. Results are in order of repeats."""
    names = list(contenders)
    found: dict[str, list[T]] = {name: [] for name in names}
    for number in range(repeats):
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            found[name].append(contenders[name]())
    return found
