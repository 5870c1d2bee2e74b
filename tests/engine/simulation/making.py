"""Builders for simulated replicas, pools and plans."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.backend import Request
from engine.planning import Plan, make_plan
from engine.simulation.jobs import Done, Job, Shape
from engine.simulation.latency import Coefficients
from engine.simulation.replica import Replica
from engine.steps import Sampling, ValueSchema
from engine.views import Message

STEADY = Coefficients(base=0.010, decode_seq=0.001, context=1e-6, prefill_token=1e-4, prefill_pair=1e-8)
SHAPE = Shape(slots=4, num_blocks=65, block_size=16, step_tokens=256)


class FixedTokens:
    """A prompt whose blocks nobody shares, unless they have the same `name`."""

    def __init__(self, num_tokens: int, size: int, name: object = None) -> None:
        self.num_tokens = num_tokens
        self._size = size
        self._name = name if name is not None else object()
        self.hashes = self._hashes(num_tokens)

    def _hashes(self, num_tokens: int) -> list[int]:
        return [hash((self._name, number)) for number in range(num_tokens // self._size)]

    def grown(self, num_made: int) -> list[int]:
        return self._hashes(self.num_tokens + num_made)


def make_job(number: int, prompt: int = 100, length: int = 20, *, priority: int = 0, name: object = None) -> Job:
    return Job(("episode", str(number), 0), FixedTokens(prompt, 16, name), length, priority)


def make_replica(shape: Shape = SHAPE, coefficients: Coefficients = STEADY, **more: Any) -> Replica:
    return Replica("replica-0", shape, coefficients, **more)


def run_out(replica: Replica) -> list[Done]:
    """Let a replica run until nothing more will happen."""
    ended: list[Done] = []
    for _ in range(1_000_000):
        due = replica.next_event()
        if due is None:
            return ended
        ended += replica.advance(due)
    raise AssertionError("the replica never comes to rest")


def make_request(
    path: str = "1/therapist",
    *,
    episode: str = "case.0",
    texts: Sequence[str] = ("You are a therapist.", "Hello."),
    purpose: str = "therapist_turn",
    max_tokens: int = 128,
    value: ValueSchema | None = None,
    replica: str = "replica-0",
    attempt: int = 0,
) -> Request:
    roles = ("system", "user", "assistant")
    messages = tuple(
        Message(roles[0] if not number else roles[2 - number % 2], text)  # type: ignore[arg-type]
        for number, text in enumerate(texts)
    )
    return Request(episode, path, attempt, "therapist", purpose, messages, Sampling(max_tokens), value, replica=replica)


def make_sim_plan(protocol: str, num_cases: int, rules: dict[str, Any] | None = None, **more: Any) -> Plan:
    roles = ("patient", "therapist") if protocol == "counseling" else ("patient", "therapist", "judge")
    table = {
        "protocol": {"name": protocol, **(rules or {})},
        "cases": {"source": "sampled", "limit": num_cases},
        "models": {"base": {"kind": "vllm", "max_num_seqs": 16, "block_size": 32, **more.pop("model", {})}},
        "roles": dict.fromkeys(roles, "base"),
        **more,
    }
    return make_plan(table, Path.cwd())
