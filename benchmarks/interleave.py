"""Interleaved repeats: contenders take turns, so that what changes on the machine meanwhile meets all of them alike."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def turns(names: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """Yield (repeat, name): every name once per repeat, each repeat beginning with another one."""
    for number in range(repeats):
        first = number % max(len(names), 1)
        for name in [*names[first:], *names[:first]]:
            yield number, name


def interleave(contenders: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """Run every contender once per repeat, in turns. Results are in order of repeats."""
    found: dict[str, list[T]] = {name: [] for name in contenders}
    for _, name in turns([*contenders], repeats):
        found[name].append(contenders[name]())
    return found
