"""Builds the episode record from a finished dialogue; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.dialogue import Dialogue
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, ErrorRecord, NodeRecord, Status, StepRecord
from engine.steps import Generate, Leaf, Reply
from engine.views import View


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a record says of its episode beside the dialogue itself."""

    key: EpisodeKey
    seed: int
    protocol: str
    case: str
    models: dict[str, str]
    started_at: float


def build_record(
    identity: Identity, dialogue: Dialogue[Any], attempts: Mapping[str, Sequence[AttemptRecord]]
) -> EpisodeRecord:
    """Return the terminal record. Its times come from the replies, so that a replay gives the same bytes."""
    table = _NodeTable()
    steps = tuple(
        _step(leaf, dialogue.answers.get(leaf.path), tuple(attempts.get(leaf.path, ())), table)
        for leaf in dialogue.in_order()
    )
    replies = [step.reply for step in steps if step.reply is not None]
    error = dialogue.error
    status: Status = "completed" if error is None else "failed"
    return EpisodeRecord(
        key=identity.key,
        seed=identity.seed,
        protocol=identity.protocol,
        status=status,
        case=identity.case,
        outcome="" if dialogue.outcome is None else msgspec.json.encode(dialogue.outcome).decode(),
        error=None if error is None else ErrorRecord(error.kind, error.message, error.path),
        models=identity.models,
        weights=tuple(sorted({reply.weights for reply in replies if reply.weights})),
        started_at=identity.started_at,
        ended_at=max((reply.started_at + reply.latency_s for reply in replies), default=identity.started_at),
        nodes=tuple(table.nodes),
        steps=steps,
    )


class _NodeTable:
    """View nodes in order of first use, each once."""

    def __init__(self) -> None:
        self.nodes: list[NodeRecord] = []
        self._index: dict[bytes, int] = {}

    def index(self, view: View) -> int:
        at = -1
        for node in view:
            known = self._index.get(node.digest)
            if known is None:
                known = len(self.nodes)
                self._index[node.digest] = known
                self.nodes.append(NodeRecord(at, node.message.role, node.message.text))
            at = known
        return at


def _step(
    leaf: Leaf, answer: Reply | tuple[float, ...] | None, attempts: tuple[AttemptRecord, ...], table: _NodeTable
) -> StepRecord:
    if isinstance(leaf, Generate):
        return StepRecord(
            path=leaf.path,
            kind="generate",
            hash=leaf.hash.hex(),
            role=leaf.role,
            purpose=leaf.purpose,
            view=table.index(leaf.view),
            sampling=leaf.sampling,
            schema="" if leaf.value is None else msgspec.json.encode(leaf.value).decode(),
            reply=answer if isinstance(answer, Reply) else None,
            attempts=attempts,
        )
    return StepRecord(
        path=leaf.path,
        kind="similarity",
        hash=leaf.hash.hex(),
        pairs=leaf.pairs,
        floats=answer if isinstance(answer, tuple) else (),
        attempts=attempts,
    )
