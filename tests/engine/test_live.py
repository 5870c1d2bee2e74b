"""Open steps of a live episode: found by path and attempt, closed in any order."""

import pytest

from engine.backend import Completion
from engine.dialogue import Dialogue
from engine.live import LiveEpisode, OpenStep
from engine.record import EpisodeKey
from engine.recording import Identity
from engine.steps import Generate, Protocol, Sampling, ask
from engine.views import View


def make_leaf(path: str) -> Generate:
    return Generate(path, "patient", View.of("s"), Sampling(8), "turn")


def wait() -> Protocol[None]:
    yield from ask(make_leaf("a"))


def make_live(paths: str) -> tuple[LiveEpisode, dict[str, OpenStep]]:
    identity = Identity(key=EpisodeKey("c"), seed=1, protocol="p", case="{}", models={}, started_at=0.0)
    live = LiveEpisode(identity, Dialogue(wait()), {})
    return live, {path: live.opened(make_leaf(path), 0.0) for path in paths}


def find(live: LiveEpisode, path: str, attempt: int = 0) -> OpenStep | None:
    return live.current(Completion("c.0", path, attempt))


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_steps_are_found_until_closed_in_any_order(order: str) -> None:
    live, steps = make_live("abc")
    for number, path in enumerate(order):
        assert find(live, path) is steps[path]
        live.closed(path)
        assert [find(live, other) for other in order] == [None] * (number + 1) + [
            steps[other] for other in order[number + 1 :]
        ]
    with pytest.raises(KeyError, match="a"):
        live.closed("a")


def test_an_answer_to_an_old_attempt_is_late() -> None:
    live, steps = make_live("a")
    steps["a"].attempt = 1
    assert find(live, "a") is None and find(live, "a", 1) is steps["a"]
