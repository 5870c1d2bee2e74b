"""Dependencies of calls, found by replaying a protocol with one reply withheld."""

from collections.abc import Sequence

import pytest

from benchmarks.real.recording import ancestors, nearest
from engine.dialogue import Answer
from engine.steps import Generate, Parallel, Protocol, Reply, Sampling, ask, parallel, similar
from engine.views import View


def generate(path: str) -> Generate:
    return Generate(path, "patient", View.of("You.").hear("Speak."), Sampling(8), "turn")


def chain() -> Protocol[None]:
    for path in ("a", "b", "c"):
        yield from ask(generate(path))


def fork() -> Protocol[None]:
    yield from ask(generate("start"))
    yield from parallel([two("left"), two("right")])
    yield from ask(generate("end"))


def two(name: str) -> Protocol[None]:
    yield from ask(generate(f"{name}/1"))
    yield from ask(generate(f"{name}/2"))


def judged() -> Protocol[None]:
    first = yield from ask(generate("first"))
    scores = yield from similar("score", [(first.text, "x")])
    if scores[0] > 0.5:
        yield from ask(generate("again"))


def side_by_side() -> Protocol[None]:
    yield Parallel((generate("one"), generate("two")))
    yield from ask(generate("after"))


def parents(protocol: object, paths: Sequence[str], **floats: tuple[float, ...]) -> dict[str, tuple[str, ...]]:
    answers: dict[str, Answer] = {path: Reply(path) for path in paths}
    found = ancestors(protocol, answers | floats, paths)  # type: ignore[arg-type]
    return {path: nearest(found, path) for path in paths}


def test_a_dialogue_is_a_chain() -> None:
    assert parents(chain, ["a", "b", "c"]) == {"a": (), "b": ("a",), "c": ("b",)}


def test_branches_depend_on_what_stands_before_the_fork_and_the_join_on_both() -> None:
    found = parents(fork, ["start", "left/1", "left/2", "right/1", "right/2", "end"])
    assert found["left/1"] == found["right/1"] == ("start",)
    assert (found["left/2"], found["right/2"]) == (("left/1",), ("right/1",))
    assert found["end"] == ("left/2", "right/2")


def test_a_similarity_between_two_calls_keeps_them_dependent() -> None:
    assert parents(judged, ["first", "again"], score=(0.9,)) == {"first": (), "again": ("first",)}


@pytest.mark.parametrize("order", [["one", "two", "after"], ["two", "after", "one"]])
def test_calls_asked_together_do_not_depend_on_each_other(order: list[str]) -> None:
    assert parents(side_by_side, order) == {"one": (), "two": (), "after": ("one", "two")}
