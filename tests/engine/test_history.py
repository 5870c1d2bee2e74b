"""What a dialogue keeps: whatever goes in comes back, in the order of asking, answering or places."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.history import _FIGURES, Answer, History
from engine.steps import Choice, Generate, Leaf, Reply, Sampling, Similarity, Usage
from engine.views import View

COUNTS = st.integers(-5, 1 << 34)
SECONDS = st.floats(allow_nan=False)
NAMES = st.sampled_from(["", "one", "two"])
REPLIES = st.builds(
    Reply,
    st.text(max_size=5),
    finish=st.sampled_from(["stop", "length"]),
    token_ids=st.sampled_from([b"", b"\x01\x00\x00\x00"]),
    tokenizer=NAMES,
    probabilities=st.none() | st.just({"1": 0.25}),
    usage=st.builds(Usage, COUNTS, COUNTS, COUNTS),
    model=NAMES,
    replica=NAMES,
    weights=NAMES,
    attempt=st.integers(0, 3),
    started_at=SECONDS,
    queue_s=SECONDS,
    latency_s=SECONDS,
    num_rendered=st.integers(0, 2),
)
GENERATIONS = st.builds(
    Generate,
    st.just(""),
    NAMES,
    st.sampled_from([View.of("s"), View.of("s").hear("a"), View.of("s").hear("a").hear("b")]),
    st.builds(Sampling, st.integers(1, 2), st.sampled_from([0, 0.0, 0.5, 1, 1.0])),
    NAMES,
    st.sampled_from([None, Choice(("1", "2"))]),
)
SIMILARITIES = st.builds(Similarity, st.just(""), st.just((("a", "b"),)))
ASKED = st.tuples(GENERATIONS, REPLIES) | st.tuples(SIMILARITIES, st.just((0.5,)))


def make_history(asked: list[tuple[Leaf, Answer]]) -> tuple[History[str], dict[str, Leaf], dict[str, Answer]]:
    """Ask all under numbered paths, places counting down; return the steps and the answers to give."""
    history: History[str] = History.empty()
    steps = {str(n): msgspec.structs.replace(step, path=str(n)) for n, (step, _) in enumerate(asked)}
    for n, step in enumerate(steps.values()):
        assert history.ask(step, (len(steps) - n,), f"who asked {n}")
    return history, steps, {str(n): answer for n, (_, answer) in enumerate(asked)}


def told(steps: dict[str, Leaf]) -> list[tuple[str, bytes, bytes]]:
    """Return what of steps can be compared: a view by its messages, the rest by its bytes."""
    return [(path, step.hash, msgspec.msgpack.encode(_bare(step))) for path, step in steps.items()]


def _bare(step: Leaf) -> object:
    if isinstance(step, Generate):
        return (step.path, step.role, step.view.messages(), step.sampling, step.purpose, step.value)
    return step


@given(st.lists(ASKED, max_size=6), st.randoms())
def test_what_went_in_comes_back(asked: list[tuple[Leaf, Answer]], rng: object) -> None:
    history, steps, answers = make_history(asked)
    order = list(answers)
    rng.shuffle(order)  # type: ignore[attr-defined]
    for number, path in enumerate(order):
        assert history.answer(path, answers[path]) == f"who asked {path}"
        assert list(history.answers().items()) == [(path, answers[path]) for path in order[: number + 1]]
    assert told(history.steps()) == told(steps)
    assert [step.path for step in history.in_order()] == list(reversed(steps))
    assert history.hashes() == {path: steps[path].hash for path in order}


@given(REPLIES.filter(lambda reply: reply.probabilities is None))
def test_times_are_kept_exactly(reply: Reply) -> None:
    step = Generate("a", "r", View.of("s"), Sampling(1), "p")
    history, _, _ = make_history([(step, reply)])
    history.answer("0", reply)
    (kept,) = history.answers().values()
    assert isinstance(kept, Reply)
    assert [math.copysign(1, kept.queue_s), kept.started_at] == [math.copysign(1, reply.queue_s), reply.started_at]


def test_a_path_is_taken_once_and_answered_once() -> None:
    history, _, _ = make_history([(Generate("", "r", View.of("s"), Sampling(1), "p"), Reply("x"))] * 2)
    assert not history.ask(Generate("0", "other", View.of("s"), Sampling(1), "p"), (9,), "late")
    history.answer("0", Reply("x"))
    with pytest.raises(KeyError, match="0"):
        history.answer("0", Reply("y"))
    assert history.give_up("1") == "who asked 1"
    with pytest.raises(KeyError, match="1"):
        history.give_up("1")
    assert list(history.steps()) == ["0", "1"] and list(history.answers()) == ["0"]


def test_replies_are_packed_and_forms_shared() -> None:
    """The point of it all: 20 answers take columns of four pointers and 40 bytes, and no step of their own."""
    one, two = (
        make_history([(Generate("", "r", View.of("s"), Sampling(1), "p"), Reply("x", usage=Usage(9, 9, 9)))] * 20)[0]
        for _ in range(2)
    )
    for history in (one, two):
        for path in history.steps():
            history.answer(path, Reply("x", usage=Usage(9, 9, 9)))
    assert len(one._columns) == 80 and len(one._figures) == 20 * _FIGURES.size == 800
    assert one._whole is None and one._order is None
    assert all(two._asked[path] is form for path, form in one._asked.items())
