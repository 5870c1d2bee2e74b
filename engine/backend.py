"""The one seam to models: submit a batch of requests, receive completions as they finish, report gauges.

A backend serves one pool (one model). It owns transport and nothing else: no retries, no ordering, no knowledge of
dialogues. Every submitted request comes back exactly once, as a reply or a failure, unless it was cancelled.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from engine.steps import Reply, Sampling, ValueSchema
from engine.views import Message

FailureKind = Literal[
    "timeout",  # no answer within the request's time
    "connection",  # the endpoint could not be reached
    "rate_limited",  # 429
    "server_error",  # 5xx or an engine-side exception
    "replica_lost",  # the replica died, hung or was replaced
    "context_overflow",  # prompt + max_tokens exceed the model's window
    "rejected",  # the request itself is at fault (4xx)
    "unauthorized",  # 401 or 403: every other call would fail too
]
RequestKey: TypeAlias = tuple[str, str, int]


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why one attempt came to nothing. `retry_after_s` is what the server asked for."""

    kind: FailureKind
    message: str
    retry_after_s: float | None = None


class RequestOptions(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a client of the endpoint may ask beyond a protocol's steps. Backends that cannot do it reject the request.

    `prompt` stands in place of the messages: text, whose control tokens count as such, or token ids; it may be followed
    by no token at all (`max_tokens` 0). The completion ends before any of the texts `stop`. With `num_tops` (0 or more)
    the reply has the log probabilities of its tokens and of that many likeliest ones; `is_echoed` returns the prompt's
    text and log probabilities too. With `fills_window`, `max_tokens` is cut to what the prompt leaves of the window.
    """

    prompt: str | tuple[int, ...] | None = None
    stop: tuple[str, ...] = ()
    num_tops: int | None = None
    is_echoed: bool = False
    fills_window: bool = False


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt of one generation. `priority`: lower is served first. `replica` is the router's choice.

    `forced_ids` are what the model is to say instead of sampling: a recorded run replayed, on pools that take them.
    `weights` is the weight version to sample under, "" for the replica's newest; one it no longer holds counts as "".
    """

    episode: str
    path: str
    attempt: int
    role: str
    purpose: str
    messages: tuple[Message, ...]
    sampling: Sampling
    value: ValueSchema | None = None
    priority: int = 0
    replica: str = ""
    timeout_s: float = 1800.0
    forced_ids: tuple[int, ...] = ()
    weights: str = ""
    options: RequestOptions | None = None

    @property
    def key(self) -> RequestKey:
        """(episode, path, attempt): unique in a run; late answers to old attempts are fenced by it."""
        return (self.episode, self.path, self.attempt)


class Completion(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of one attempt: exactly one of `reply` and `failure` is set."""

    episode: str
    path: str
    attempt: int
    reply: Reply | None = None
    failure: Failure | None = None

    @property
    def key(self) -> RequestKey:
        """The key of the request this completes."""
        return (self.episode, self.path, self.attempt)


class ReplicaGauges(msgspec.Struct, frozen=True, gc=False):
    """What one replica reports. Counters grow from its start; `kv_tokens` is None where the backend has no such figure.

    `state` is `starting`, `ready`, `cordoned` (serves the episodes that live there and takes no others), `swapping`
    (takes no turns for now; what lives there waits) or `lost`. `weights` is the weight version that new episodes get,
    `versions` all that can be sampled under (() when that is the only one). With `is_mixing`, episodes go on under
    `weights` whatever they began under.
    """

    replica: str
    state: str = "ready"
    running: int = 0
    waiting: int = 0
    slots: int = 1
    kv_tokens: int | None = None
    kv_usage: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    weights: str = ""
    restarts: int = 0
    versions: tuple[str, ...] = ()
    is_mixing: bool = False


class Backend(Protocol):
    """One pool of replicas of one model."""

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens that the pool accepts, None when unknown."""

    async def start(self) -> None:
        """Bring the pool up. Raises `BackendDown` with a reason instead of hanging."""

    async def submit(self, batch: Sequence[Request]) -> None:
        """Hand over requests; returns once they are on their way, not when they are done."""

    async def collect(self) -> list[Completion]:
        """Wait for something to happen; return what has finished.

        An empty list says that the replicas changed. Raises `BackendDown` when the pool is beyond help.
        """

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Stop working on requests; no completion is reported for them. Unknown keys are ignored."""

    async def forget(self, episode: str) -> None:
        """An episode has ended: nothing of it will be asked again."""

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the latest gauges, one per replica, stable order; another object whenever something changed."""

    async def close(self) -> None:
        """End everything this backend started. Safe to call twice."""


class Embedder(Protocol):
    """Texts to similarities; batched, cached by content, off the scheduler's loop."""

    @property
    def identity(self) -> str:
        """Name and fingerprint of the embedding model: a fitted cut holds only for this identity."""

    async def start(self) -> None:
        """Load or reach the model. Raises `BackendDown` with a reason."""

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the cosine of each pair, in order. Raises `EmbeddingFailed`."""

    async def close(self) -> None:
        """End everything this embedder started."""


class EmbeddingFailed(Exception):
    """A batch of similarities came to nothing; carries the failure."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(f"{failure.kind}: {failure.message}")


Pools: TypeAlias = Mapping[str, Backend]
