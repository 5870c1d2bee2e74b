"""The episode record: everything one finished dialogue was.

Records are built from the dialogue and its stored replies alone: the same replies give the same bytes. Views are kept
as one table of nodes per episode (each node names its parent), so that who saw what is exact and the size is linear.
"""

from typing import Final, Literal

import msgspec

from engine.steps import Reply, Sampling

Status = Literal["completed", "failed", "cancelled"]

JOINT: Final = "+"
"""Joins the weight versions of one reply whose model was swapped while it was sampled, oldest first."""


class EpisodeKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """Which episode: a case, its repeat (0-based), and the try of that repeat (0 unless failed ones were retried)."""

    case: str
    repeat: int = 0
    attempt: int = 0

    def __str__(self) -> str:
        suffix = f".t{self.attempt}" if self.attempt else ""
        return f"{self.case}.{self.repeat}{suffix}"


class NodeRecord(msgspec.Struct, frozen=True, gc=False):
    """One message of some view. `parent` indexes the node before it, -1 for a view's first."""

    parent: int
    role: str
    text: str


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """One failed attempt of a step."""

    attempt: int
    kind: str
    message: str
    replica: str = ""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step with its answer. A generation has `reply` and `view` (a node index); a similarity has `floats`.

    `hash` is hexadecimal. A step whose budget was spent has neither reply nor floats, but its `attempts`.
    """

    path: str
    kind: Literal["generate", "similarity"]
    hash: str
    role: str = ""
    purpose: str = ""
    view: int = -1
    sampling: Sampling | None = None
    schema: str = ""
    reply: Reply | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    floats: tuple[float, ...] = ()
    attempts: tuple[AttemptRecord, ...] = ()


class ErrorRecord(msgspec.Struct, frozen=True, gc=False):
    """Why an episode failed."""

    kind: str
    message: str
    path: str = ""


class EpisodeHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One episode, terminal, without its steps, which are nearly all of it: for who needs no more.

    `outcome` and `case` are JSON texts (the protocol's own types). `models` maps role to model name. `weights` are all
    weight versions its turns were sampled under, sorted. `seq` is its place in the order of terminal commits, given by
    the journal. Times are Unix seconds.
    """

    key: EpisodeKey
    seed: int
    protocol: str
    status: Status
    case: str = ""
    outcome: str = ""
    error: ErrorRecord | None = None
    models: dict[str, str] = {}
    weights: tuple[str, ...] = ()
    started_at: float = 0.0
    ended_at: float = 0.0
    seq: int = -1


class EpisodeRecord(EpisodeHead, frozen=True, kw_only=True, gc=False):
    """One episode, terminal.

    `steps` stand in program order (that of the protocol's text, never of arrival).
    """

    nodes: tuple[NodeRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()

    @property
    def episode(self) -> str:
        """The episode's name."""
        return str(self.key)

    @property
    def is_mixed(self) -> bool:
        """Whether one of its models was sampled under more than one weight version."""
        versions: dict[str, set[str]] = {}
        for step in self.steps:
            if step.reply is not None:
                versions.setdefault(step.reply.model, set()).update(step.reply.weights.split(JOINT))
        return any(len(found - {""}) > 1 for found in versions.values())

    @property
    def num_calls(self) -> int:
        """Chat requests, every attempt."""
        return sum(len(s.attempts) + (s.reply is not None) for s in self.steps if s.kind == "generate")

    def view(self, step: StepRecord) -> list[NodeRecord]:
        """Return what the step's role saw, oldest first."""
        nodes: list[NodeRecord] = []
        index = step.view
        while index >= 0:
            nodes.append(self.nodes[index])
            index = self.nodes[index].parent
        return nodes[::-1]
