"""The driver: order, forks, failures, replay and drift."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dialogue import Answer, Dialogue
from engine.errors import ProtocolDrift, StepFailed
from engine.steps import Generate, Leaf, Protocol, Reply, Sampling, Similarity, ask, both, enter, parallel, similar
from engine.views import View

VIEW = View.of("system").hear("hello")


def make_step(path: str, text: str = "hello") -> Generate:
    return Generate(path, "patient", View.of("system").hear(text), Sampling(8), "patient_turn")


def say(path: str, text: str = "hello") -> Protocol[str]:
    reply = yield from ask(make_step(path, text))
    return reply.text


def chain(name: str, length: int) -> Protocol[str]:
    words = []
    for number in range(length):
        words.append((yield from say(f"{name}/{number}", " ".join(words) or "start")))
    return "+".join(words)


def nested() -> Protocol[list[str]]:
    yield from enter("first")
    opening = yield from say("open")
    one, two = yield from both(chain("one", 3), parallel([chain("two", 2), chain("three", 1)]))
    yield from enter("last")
    floats = yield from similar("compare", [(one, "x"), (two[0], "y")])
    return [opening, one, *two, str(floats)]


def reply_to(leaf: Leaf) -> Answer:
    return Reply(f"<{leaf.path}>") if isinstance(leaf, Generate) else tuple(0.5 for _ in leaf.pairs)


def play(dialogue: Dialogue[list[str]], seed: int) -> None:
    """Answer open steps in an arbitrary order."""
    rng = random.Random(seed)
    waiting = dialogue.start()
    while waiting:
        leaf = waiting.pop(rng.randrange(len(waiting)))
        waiting += dialogue.deliver(leaf.path, reply_to(leaf))


@given(st.integers(0, 10_000))
def test_arrival_order_changes_nothing(seed: int) -> None:
    first: Dialogue[list[str]] = Dialogue(nested())
    play(first, 0)
    other: Dialogue[list[str]] = Dialogue(nested())
    play(other, seed)
    assert other.outcome == first.outcome
    assert [leaf.path for leaf in other.in_order()] == [leaf.path for leaf in first.in_order()]
    assert [leaf.path for leaf in first.in_order()] == [
        *("open", "one/0", "one/1", "one/2", "two/0", "two/1", "three/0", "compare"),
    ]
    assert first.phase == "last"


@given(st.integers(0, 10_000), st.integers(0, 8))
def test_replay_arrives_where_it_was(seed: int, num_stored: int) -> None:
    whole: Dialogue[list[str]] = Dialogue(nested())
    play(whole, seed)
    order = list(whole.answers)[:num_stored]
    stored = {path: (whole.steps[path].hash, whole.answers[path]) for path in order}
    resumed: Dialogue[list[str]] = Dialogue(nested(), stored)
    waiting = resumed.start()
    assert not {leaf.path for leaf in waiting} & set(order)
    while waiting:
        leaf = waiting.pop()
        waiting += resumed.deliver(leaf.path, reply_to(leaf))
    assert resumed.outcome == whole.outcome


def test_a_changed_request_is_drift() -> None:
    stored: dict[str, tuple[bytes, Answer]] = {"open": (make_step("open", "something else").hash, Reply("x"))}
    with pytest.raises(ProtocolDrift, match="open"):
        Dialogue(nested(), stored).start()


def test_siblings_end_before_a_failure_is_raised() -> None:
    seen: list[str] = []

    def branch(name: str) -> Protocol[str]:
        text = yield from say(name)
        seen.append(name)
        return text

    def session() -> Protocol[list[str]]:
        try:
            yield from parallel([branch("a"), branch("b"), branch("c")])
        except StepFailed as failed:
            return [*seen, failed.path]
        raise AssertionError

    dialogue: Dialogue[list[str]] = Dialogue(session())
    dialogue.start()
    dialogue.deliver("a", Reply("x"))
    dialogue.fail("b", StepFailed("timeout", "late", "b"))
    assert not dialogue.is_done
    dialogue.deliver("c", Reply("x"))
    assert dialogue.outcome == ["a", "c", "b"]


def test_the_first_failure_in_declared_order_is_raised() -> None:
    dialogue: Dialogue[list[str]] = Dialogue(parallel([chain("a", 1), chain("b", 1)]))
    dialogue.start()
    dialogue.fail("b/0", StepFailed("timeout", "late", "b/0"))
    dialogue.fail("a/0", StepFailed("rejected", "no", "a/0"))
    assert dialogue.error is not None
    assert dialogue.error.path == "a/0"


def test_a_path_used_twice_fails_the_episode_with_its_name() -> None:
    def session() -> Protocol[str]:
        yield from say("same")
        return (yield from say("same"))

    dialogue = Dialogue(session())
    dialogue.start()
    dialogue.deliver("same", Reply("x"))
    assert dialogue.error is not None
    assert (dialogue.error.kind, dialogue.error.path) == ("protocol_error", "same")


def test_a_bug_in_a_protocol_is_data_that_names_the_line() -> None:
    def session() -> Protocol[str]:
        yield from enter("phase")
        return str(1 / 0)

    dialogue = Dialogue(session())
    assert dialogue.start() == []
    assert dialogue.error is not None
    assert "ZeroDivisionError" in dialogue.error.message
    assert "test_dialogue.py" in dialogue.error.message


def test_yielding_something_else_fails_with_the_remedy() -> None:
    def session() -> Protocol[None]:
        yield "hello"  # type: ignore[misc]

    dialogue = Dialogue(session())
    dialogue.start()
    assert dialogue.error is not None
    assert "got str" in dialogue.error.message


def test_hash_covers_the_request_and_nothing_else() -> None:
    step = make_step("a")
    assert step.hash == make_step("another/path").hash
    assert step.hash != make_step("a", "other words").hash
    assert step.hash != Generate("a", "judge", step.view, step.sampling, step.purpose).hash
    assert step.hash != Generate("a", step.role, step.view, Sampling(9), step.purpose).hash
    assert Similarity("p", (("a", "b"),)).hash != Similarity("p", (("a", "c"),)).hash


@given(st.integers(0, 10_000), st.booleans())
def test_hashes_are_those_of_the_steps_whether_handed_in_or_not(seed: int, is_handed_in: bool) -> None:
    dialogue: Dialogue[list[str]] = Dialogue(nested())
    rng = random.Random(seed)
    waiting = dialogue.start()
    while waiting:
        leaf = waiting.pop(rng.randrange(len(waiting)))
        waiting += dialogue.deliver(leaf.path, reply_to(leaf), leaf.hash if is_handed_in else b"")
        assert dialogue.hashes() == {path: dialogue.steps[path].hash for path in dialogue.answers}
