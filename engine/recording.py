"""Builds the episode record from a finished dialogue; pure."""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.dialogue import Answer, Dialogue
from engine.record import (
    JOINT,
    AttemptRecord,
    EpisodeKey,
    EpisodeRecord,
    ErrorRecord,
    NodeRecord,
    Status,
    StepRecord,
)
from engine.steps import Generate, Leaf, Reply, ValueSchema
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
    hashes, answers = dialogue.hashes(), dialogue.answers
    steps: list[StepRecord] = []
    weights: set[str] = set()
    ended_at = -math.inf
    for leaf in dialogue.in_order():
        path = leaf.path
        answer = answers.get(path)
        digest = hashes.get(path) or leaf.hash
        past = tuple(attempts[path]) if path in attempts else ()
        steps.append(_step(leaf, answer, digest, past, table))
        if isinstance(answer, Reply):
            weights.update(answer.weights.split(JOINT))
            ended_at = max(ended_at, answer.started_at + answer.latency_s)
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
        weights=tuple(sorted(weights - {""})),
        started_at=identity.started_at,
        ended_at=ended_at if weights else identity.started_at,
        nodes=tuple(table.nodes),
        steps=tuple(steps),
    )


def build_stub(
    identity: Identity, dialogue: Dialogue[Any], attempts: Mapping[str, Sequence[AttemptRecord]]
) -> EpisodeRecord:
    """Return a terminal record of how the episode ended, without what was said: for a journal that keeps nothing."""
    return EpisodeRecord(
        key=identity.key,
        seed=identity.seed,
        protocol=identity.protocol,
        status="completed" if dialogue.error is None else "failed",
        started_at=identity.started_at,
        ended_at=identity.started_at,
    )


class _NodeTable:
    """View nodes in order of first use, each once."""

    def __init__(self) -> None:
        self.nodes: list[NodeRecord] = []
        self._index: dict[bytes, int] = {}

    def index(self, view: View) -> int:
        """Return the view's index, after adding what of it is new."""
        index, nodes = self._index, self.nodes
        fresh: list[tuple[bytes, View]] = []
        at = -1
        node: View | None = view
        while node is not None:
            digest = node.digest
            known = index.get(digest)
            if known is not None:
                at = known
                break
            fresh.append((digest, node))
            node = node.parent
        while fresh:
            digest, added = fresh.pop()
            message = added.message
            index[digest] = number = len(nodes)
            nodes.append(NodeRecord(at, message.role, message.text))
            at = number
        return at


@functools.lru_cache(maxsize=256)
def _schema_json(schema: ValueSchema) -> str:
    return msgspec.json.encode(schema).decode()


def _step(
    leaf: Leaf, answer: Answer | None, digest: bytes, attempts: tuple[AttemptRecord, ...], table: _NodeTable
) -> StepRecord:
    if isinstance(leaf, Generate):
        return StepRecord(
            path=leaf.path,
            kind="generate",
            hash=digest.hex(),
            role=leaf.role,
            purpose=leaf.purpose,
            view=table.index(leaf.view),
            sampling=leaf.sampling,
            schema="" if leaf.value is None else _schema_json(leaf.value),
            reply=answer if isinstance(answer, Reply) else None,
            attempts=attempts,
        )
    return StepRecord(
        path=leaf.path,
        kind="similarity",
        hash=digest.hex(),
        pairs=leaf.pairs,
        floats=answer if isinstance(answer, tuple) else (),
        attempts=attempts,
    )
