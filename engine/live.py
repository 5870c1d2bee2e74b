"""A live episode as the scheduler holds it: the dialogue plus the attempts of its open steps; no awaiting, no clock."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from engine.backend import Failure, Request
from engine.dialogue import Dialogue
from engine.errors import StepFailed
from engine.record import AttemptRecord, EpisodeKey
from engine.recording import Identity
from engine.steps import Generate, Leaf

SPENT: Final = -1
"""Attempt number of the journal row that says a step's budget is spent."""


class OpenStep(msgspec.Struct, eq=False):
    """One open leaf and its attempts. Times are monotonic seconds.

    `replica` is where the latest attempt was sent to, "" before the first.
    """

    live: "LiveEpisode"
    leaf: Leaf
    opened_at: float
    failures: Sequence[AttemptRecord] = ()
    attempt: int = 0
    avoid: str = ""
    submitted_at: float = 0.0
    waited_s: float = 0.0
    replica: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """The key of the current attempt: a completion under another key is late and dropped."""
        return (self.live.name, self.leaf.path, self.attempt)

    def request(self, replica: str, priority: int, timeout_s: float, weights: str = "") -> Request:
        """Return the current attempt as a request, to be sampled under a weight version."""
        leaf = self.leaf
        assert isinstance(leaf, Generate)
        return Request(
            self.live.name,
            leaf.path,
            self.attempt,
            leaf.role,
            leaf.purpose,
            leaf.view.messages(),
            leaf.sampling,
            leaf.value,
            priority,
            replica,
            timeout_s,
            (),
            weights,
        )

    def note(self, failure: Failure, replica: str) -> AttemptRecord:
        """Record a failed attempt and move on to the next attempt number."""
        record = AttemptRecord(self.attempt, failure.kind, failure.message, replica)
        self.failures = self.live.failed(self.leaf, record)
        self.attempt += 1
        self.avoid = replica
        return record


class LiveEpisode:
    """One admitted episode."""

    __slots__ = ("attempts", "dialogue", "identity", "name", "num_turns", "phase")

    def __init__(
        self, identity: Identity, dialogue: Dialogue[Any], attempts: dict[str, tuple[AttemptRecord, ...]]
    ) -> None:
        self.identity = identity
        self.dialogue = dialogue
        self.name = str(identity.key)
        # Of steps that failed, which are few: only those have an entry, and most episodes no dictionary.
        self.attempts: dict[str, list[AttemptRecord]] | None = None
        if attempts:
            self.attempts = {path: list(past) for path, past in attempts.items()}
        self.num_turns = 0
        self.phase = ""

    @property
    def key(self) -> EpisodeKey:
        """Which episode this is."""
        return self.identity.key

    def opened(self, leaf: Leaf, now: float) -> OpenStep:
        """Return an open leaf with the attempts that it has behind it."""
        past = self.attempts.get(leaf.path, ()) if self.attempts else ()
        return OpenStep(self, leaf, now, past, len(past))

    def failed(self, leaf: Leaf, record: AttemptRecord) -> list[AttemptRecord]:
        """Keep a failed attempt of a step; return all of that step."""
        if self.attempts is None:
            self.attempts = {}
        past = self.attempts.setdefault(leaf.path, [])
        past.append(record)
        return past

    def spent(self, leaf: Leaf) -> StepFailed | None:
        """Return the failure with which a step ended before a restart, if it did."""
        past = self.attempts.get(leaf.path, ()) if self.attempts else ()
        marker = next((attempt for attempt in past if attempt.attempt == SPENT), None)
        return None if marker is None else StepFailed(marker.kind, marker.message, leaf.path)
