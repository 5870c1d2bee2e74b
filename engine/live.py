"""A live episode as the scheduler holds it: the dialogue plus the attempts of its open steps; no awaiting, no clock."""

from typing import Any, Final

from engine.backend import Completion, Failure, Request
from engine.dialogue import Dialogue
from engine.errors import StepFailed
from engine.record import AttemptRecord, EpisodeKey
from engine.recording import Identity
from engine.steps import Generate, Leaf

SPENT: Final = -1
"""Attempt number of the journal row that says a step's budget is spent."""


class OpenStep:
    """One open leaf and its attempts. Times are monotonic seconds."""

    __slots__ = ("attempt", "avoid", "failures", "leaf", "live", "opened_at", "submitted_at", "waited_s")

    def __init__(self, live: "LiveEpisode", leaf: Leaf, opened_at: float, failures: list[AttemptRecord]) -> None:
        self.live = live
        self.leaf = leaf
        self.opened_at = opened_at
        self.submitted_at = 0.0
        self.failures = failures
        self.attempt = len(failures)
        self.avoid = ""
        self.waited_s = 0.0

    @property
    def key(self) -> tuple[str, str, int]:
        """The key of the current attempt: a completion under another key is late and dropped."""
        return (self.live.name, self.leaf.path, self.attempt)

    def request(self, replica: str, timeout_s: float) -> Request:
        """Return the current attempt as a request."""
        leaf = self.leaf
        assert isinstance(leaf, Generate)
        return Request(
            episode=self.live.name,
            path=leaf.path,
            attempt=self.attempt,
            role=leaf.role,
            purpose=leaf.purpose,
            messages=leaf.view.messages(),
            sampling=leaf.sampling,
            value=leaf.value,
            priority=-self.live.num_turns,
            replica=replica,
            timeout_s=timeout_s,
        )

    def note(self, failure: Failure, replica: str) -> AttemptRecord:
        """Record a failed attempt and move on to the next attempt number."""
        record = AttemptRecord(self.attempt, failure.kind, failure.message, replica)
        self.failures.append(record)
        self.attempt += 1
        self.avoid = replica
        return record


class LiveEpisode:
    """One admitted episode."""

    __slots__ = ("attempts", "dialogue", "identity", "name", "num_turns", "open", "phase")

    def __init__(
        self, identity: Identity, dialogue: Dialogue[Any], attempts: dict[str, tuple[AttemptRecord, ...]]
    ) -> None:
        self.identity = identity
        self.dialogue = dialogue
        self.name = str(identity.key)
        self.attempts: dict[str, list[AttemptRecord]] = {path: list(past) for path, past in attempts.items()}
        self.num_turns = 0
        self.open: dict[str, OpenStep] = {}
        self.phase = ""

    @property
    def key(self) -> EpisodeKey:
        """Which episode this is."""
        return self.identity.key

    def opened(self, leaf: Leaf, now: float) -> OpenStep:
        """Track an open leaf."""
        step = OpenStep(self, leaf, now, self.attempts.setdefault(leaf.path, []))
        self.open[leaf.path] = step
        return step

    def current(self, completion: Completion) -> OpenStep | None:
        """Return the open step this completion answers, or None when it is late."""
        step = self.open.get(completion.path)
        return step if step is not None and step.attempt == completion.attempt else None


def spent(step: OpenStep) -> StepFailed | None:
    """Return the failure with which this step ended before a restart, if it did."""
    marker = next((past for past in step.failures if past.attempt == SPENT), None)
    return None if marker is None else StepFailed(marker.kind, marker.message, step.leaf.path)
