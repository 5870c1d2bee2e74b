"""What travels between the fleet and a replica: msgpack bytes, always in batches.

Requests and completions are the engine's own structs; here are only the envelopes. One decoder per type, built once.
"""

from collections.abc import Sequence

import msgspec

from actors.processes import ProcessRecord
from engine.backend import Completion, ReplicaGauges, Request, RequestKey


class Collected(msgspec.Struct, frozen=True, array_like=True):
    """One answer of the long poll: what has finished, and the gauges.

    `num_steps` counts the engine's steps since its start: it grows while work moves. `problem` says why the engine is
    beyond help.
    """

    completions: list[Completion]
    gauges: ReplicaGauges
    num_steps: int = 0
    problem: str = ""


class ReplicaStatus(msgspec.Struct, frozen=True):
    """How far a starting replica is, and its processes so far."""

    phase: str
    processes: list[ProcessRecord]


class ReplicaInfo(msgspec.Struct, frozen=True):
    """A started replica. `kv_tokens` is the engine's block count times block size, `max_context` in tokens.

    `weights` is the weight version, `tokenizer` the tokenizer's fingerprint; `merges_system` says that the template has
    no system role, `is_exact` that prompts are composed by splicing sampled ids. `versions` is what its process runs.
    """

    replica: str
    processes: list[ProcessRecord]
    kv_tokens: int
    max_context: int
    slots: int
    weights: str
    tokenizer: str
    merges_system: bool = False
    is_exact: bool = True
    versions: dict[str, str] = {}


_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS = msgspec.msgpack.Decoder(list[Request])
_COLLECTED = msgspec.msgpack.Decoder(Collected)
_KEYS = msgspec.msgpack.Decoder(list[tuple[str, str, int]])
_STATUS = msgspec.msgpack.Decoder(ReplicaStatus)
_INFO = msgspec.msgpack.Decoder(ReplicaInfo)


def encode(value: Sequence[Request] | Sequence[RequestKey] | Collected | ReplicaStatus | ReplicaInfo) -> bytes:
    """Return the wire form of one envelope or batch."""
    return _ENCODER.encode(value)


def decode_requests(data: bytes) -> list[Request]:
    """Return a batch of requests. Raises `msgspec.DecodeError`, as all decoders here."""
    return _REQUESTS.decode(data)


def decode_collected(data: bytes) -> Collected:
    """Return one answer of the long poll."""
    return _COLLECTED.decode(data)


def decode_keys(data: bytes) -> list[RequestKey]:
    """Return request keys."""
    return _KEYS.decode(data)


def decode_status(data: bytes) -> ReplicaStatus:
    """Return a starting replica's status."""
    return _STATUS.decode(data)


def decode_info(data: bytes) -> ReplicaInfo:
    """Return a started replica's facts."""
    return _INFO.decode(data)
