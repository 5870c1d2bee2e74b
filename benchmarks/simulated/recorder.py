"""Notes the work of a simulated run: for each call a digest of what was asked and how much was said."""

import hashlib
from collections.abc import Iterable

import msgspec

from benchmarks.real.outcome import Outcome
from benchmarks.trace import hash_digests
from engine.backend import Request
from engine.simulation.answers import Answer, Answers


class Recorder:
    """`Answers` that notes what is asked: `works` maps (episode, path) to a digest, in the order asked."""

    def __init__(self, inner: Answers) -> None:
        self.works: dict[tuple[str, str], bytes] = {}
        self._inner = inner

    def answer(self, request: Request) -> Answer:
        """Return the inner answer."""
        answer = self._inner.answer(request)
        asked = (request.episode, request.path, request.messages, answer.num_tokens)
        work = hashlib.blake2b(msgspec.msgpack.encode(asked), digest_size=16).digest()
        self.works[request.episode, request.path] = work
        return answer


class Silent(Recorder):
    """A recorder that notes nothing, where the speed of simulation itself is measured."""

    def answer(self, request: Request) -> Answer:
        """Return the inner answer."""
        self.works[request.episode, request.path] = b""
        return self._inner.answer(request)


def trace_of(outcomes: Iterable[Outcome]) -> str:
    """Return one hash over the traces of all seeds."""
    return hash_digests(bytes.fromhex(outcome.trace) for outcome in outcomes)
