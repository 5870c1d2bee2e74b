"""The step vocabulary: what a protocol may yield, and what it receives.

A protocol is a generator that yields steps and receives replies. Raw `yield` stands only in the helpers at the end
(`ask`, `similar`, `parallel`, `both`, `enter`), so that a protocol's body is fully typed. Steps know nothing of models,
machines, attempts or time.
"""

import hashlib
from collections.abc import Generator, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec

from engine.token_ids import TokenIds
from engine.views import HASHER, View

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

_ENCODER = msgspec.msgpack.Encoder()


class Sampling(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How to sample one completion. `max_tokens` counts completion tokens."""

    max_tokens: int
    temperature: float = 0.8
    top_p: float = 1.0


class Choice(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="choice"):
    """A value that is exactly one of `options`."""

    options: tuple[str, ...]


class Fields(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="fields"):
    """A value that is a JSON object of strings: one per name, each at most `max_chars` characters."""

    names: tuple[str, ...]
    max_chars: int = 400


ValueSchema: TypeAlias = Choice | Fields


class Usage(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Token counts of one completion. `cached_tokens` of the prompt came from the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0


class ReplyDetails(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a request's options asked for beyond the reply: the prompt's text, and log probabilities (natural).

    `tokens`, their `log_probabilities` and `tops` have one entry per token; the first `num_prompt` are the prompt's.
    `tops` hold the likeliest tokens by text, and the token itself; of tokens with the same text the likeliest counts.
    The first token of a prompt has neither: nothing comes before it.
    """

    prompt: str = ""
    num_prompt: int = 0
    tokens: tuple[str, ...] = ()
    log_probabilities: tuple[float | None, ...] = ()
    tops: tuple[dict[str, float] | None, ...] = ()


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One completion as a protocol receives it and the journal keeps it.

    `finish` is `stop` or `length`. `probabilities` maps the alternatives of a `Choice` to their probability where the
    backend reports them. `weights` is the weight version (a checksum) the tokens were sampled under, or several joined
    by "+", oldest first, when the model was swapped meanwhile. `started_at` is Unix time; `queue_s` is time spent in
    the scheduler, `latency_s` from submission to completion.
    `num_rendered` counts own turns whose sampled ids could not be reused and were tokenized from text again.
    `details` are there where a request's options asked for them, which no step does.
    """

    text: str
    finish: str = "stop"
    token_ids: TokenIds = b""
    tokenizer: str = ""
    probabilities: dict[str, float] | None = None
    usage: Usage = Usage()
    model: str = ""
    replica: str = ""
    weights: str = ""
    attempt: int = 0
    started_at: float = 0.0
    queue_s: float = 0.0
    latency_s: float = 0.0
    num_rendered: int = 0
    details: ReplyDetails | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether the token limit ended the completion."""
        return self.finish == "length"


class Generate(msgspec.Struct, frozen=True, gc=False):
    """Ask `role`'s model to continue `view`. `purpose` names what the call is for; `value` constrains the answer."""

    path: str
    role: str
    view: View
    sampling: Sampling
    purpose: str
    value: ValueSchema | None = None

    @property
    def hash(self) -> bytes:
        """Digest of all that determines the request; never of ids, model, endpoint, replica, attempt or weights."""
        rest = _ENCODER.encode((self.role, self.purpose, self.sampling, self.value))
        hasher = HASHER.copy()
        hasher.update(self.view.digest + rest)
        return hasher.digest()


class Similarity(msgspec.Struct, frozen=True, gc=False):
    """Ask for the cosine similarity of each pair of texts. Vectors never enter a protocol."""

    path: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def hash(self) -> bytes:
        """Digest of the pairs."""
        return hashlib.blake2b(_ENCODER.encode(self.pairs), digest_size=16).digest()


class Enter(msgspec.Struct, frozen=True, gc=False):
    """Say that the dialogue enters a phase; nothing is waited for."""

    phase: str


class Parallel(msgspec.Struct, frozen=True):
    """Run branches (steps or protocols) side by side; the results come back in declared order.

    When branches fail, the first failure in declared order is raised at the yield, after every sibling has ended.
    """

    branches: tuple["Step | Generator[Step, Any, Any]", ...]


Leaf: TypeAlias = Generate | Similarity
Step: TypeAlias = Generate | Similarity | Enter | Parallel
Protocol: TypeAlias = Generator[Step, Any, T]


def ask(step: Generate) -> Protocol[Reply]:
    """Yield one generation and return its reply."""
    reply: Reply = yield step
    return reply


def similar(path: str, pairs: Sequence[tuple[str, str]]) -> Protocol[tuple[float, ...]]:
    """Return the cosine similarity of each pair, in order."""
    floats: tuple[float, ...] = yield Similarity(path, tuple(pairs))
    return floats


def parallel(branches: Sequence[Protocol[T]]) -> Protocol[list[T]]:
    """Run protocols of one type side by side; the results come back in declared order."""
    results: list[T] = yield Parallel(tuple(branches))
    return results


def both(first: Protocol[A], second: Protocol[B]) -> Protocol[tuple[A, B]]:
    """Run two protocols side by side."""
    one, two = yield Parallel((first, second))
    return one, two


def enter(phase: str) -> Protocol[None]:
    """Enter a phase."""
    yield Enter(phase)
