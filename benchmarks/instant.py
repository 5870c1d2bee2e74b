"""Models that answer at once: what is left when a run plays against them is the scheduler's own cost.

Invariant: every answer parses under its protocol, and no two answers are the same text, so that nothing is cheaper than
with real models because it was seen before. Keeps no request.
"""

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from engine.backend import Completion, ReplicaGauges, Request, RequestKey
from engine.steps import Choice, Fields, Reply, Usage
from engine.token_ids import pack_ids

SENTENCE: Final = "I hear you, and I would like to know a little more about how that was for you."
WORDS: Final = SENTENCE.split()
GOOD_TRY: Final = "3"
"""Which plan of the MentalArena course is scored well: the k of the workload in use elsewhere (R = 5, k = 3)."""

Say: TypeAlias = Callable[[Request], str]


def words(number: int) -> str:
    """Return a text of that many words."""
    return " ".join(itertools.islice(itertools.cycle(WORDS), number))


def talker(num_words: int) -> Say:
    """Return utterances of about `num_words` words, each its own text."""
    text = words(num_words)
    numbers = itertools.count(1)
    return lambda request: f"{text} {next(numbers)}"


def arena_player(num_words: int) -> Say:
    """Return MentalArena's answers: with a similarity of 0 five guided rounds, three plans of each kind (85 calls)."""
    say = talker(num_words)

    def answer(request: Request) -> str:
        match request.value:
            case Choice(options=options):
                if request.purpose == "score":
                    return "9" if request.path.split("/", 3)[2] == GOOD_TRY else "5"
                return options[-1]
            case Fields(names=names):
                return json.dumps({name: say(request) for name in names})
        text = say(request)
        return f"Diagnosis: major depressive disorder\n{text}" if request.purpose == "diagnosis" else text

    return answer


class InstantBackend:
    """A `Backend` whose answers are ready at the next `collect`.

    `num_answered` counts completions, `num_held` requests that `holds` kept from being answered: those are dropped, and
    their dialogues stay live. Every reply carries `num_ids` sampled ids of its own.
    """

    def __init__(self, say: Say, *, holds: Callable[[Request], bool] | None = None, num_ids: int = 0) -> None:
        self.num_answered = 0
        self.num_held = 0
        self._say = say
        self._holds = holds
        self._num_ids = num_ids
        self._ids = itertools.cycle(range(1000, 49_000, 7))
        self._done: list[Completion] = []
        self._changed = asyncio.Event()
        self._gauges = (ReplicaGauges("instant-0", slots=1 << 20),)
        self._usage = Usage(400, 60, 320)

    @property
    def max_context(self) -> int | None:
        """Nothing is too long."""
        return None

    async def start(self) -> None:
        """Do nothing: it is always up."""

    async def submit(self, batch: Sequence[Request]) -> None:
        """Answer the whole batch."""
        holds = self._holds
        for request in batch:
            if holds is not None and holds(request):
                self.num_held += 1
                continue
            self._done.append(Completion(request.episode, request.path, request.attempt, self._reply(request)))
        if self._done:
            self._changed.set()

    def _reply(self, request: Request) -> Reply:
        text = self._say(request)
        ids = pack_ids(itertools.islice(self._ids, self._num_ids)) if self._num_ids else b""
        return Reply(
            text,
            token_ids=ids,
            tokenizer="instant" if ids else "",
            usage=self._usage,
            model="instant",
            replica="instant-0",
            weights="instant-0",
        )

    async def collect(self) -> list[Completion]:
        """Return what has been answered."""
        await self._changed.wait()
        self._changed.clear()
        done, self._done = self._done, []
        self.num_answered += len(done)
        return done

    async def cancel(self, keys: Sequence[RequestKey]) -> None:
        """Do nothing: nothing is open."""

    async def forget(self, episode: str) -> None:
        """Do nothing: nothing is kept."""

    def replicas(self) -> Sequence[ReplicaGauges]:
        """Return the one replica."""
        return self._gauges

    async def close(self) -> None:
        """Do nothing: nothing was started."""


class InstantEmbedder:
    """An `Embedder` that gives every pair the same similarity."""

    identity: Final = "instant"

    def __init__(self, similarity: float = 0.0) -> None:
        self._similarity = similarity

    async def start(self) -> None:
        """Do nothing: it is always up."""

    async def similarities(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return one figure for all."""
        return (self._similarity,) * len(pairs)

    async def close(self) -> None:
        """Do nothing: nothing was started."""
