"""What a simulated model says: text of a known length, values that parse, similarities; seeded, in no order.

An answer depends on the seed, the episode and the step's path alone. Text is common short words, about one token and
four bytes each, so that it counts nearly the same by any measure once it is quoted in another prompt. Knows nothing of
replicas or time; what protocols look for in free text is a table of phrases.
"""

import hashlib
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Final, Protocol

import msgspec

from engine.backend import Request
from engine.record import EpisodeRecord
from engine.simulation.lengths import LengthSampler, shares, uniform_weights
from engine.steps import Choice, Fields
from engine.token_count import bytes_count

WORDS: Final = (
    "the and for you are not but had has was all any can her one our out day get him how man new now old see two way"
    " who did its let put say she too use able ask away back bad be big both call came care come do down each ease end"
    " even ever feel felt few find fine from give go good hand hard he hear help here home hope hour idea if in into is"
    " it just keep kind knew know last late less life like long look lot made make many me mean mind more most move"
    " much my name near need next no of off on once only open or over own pain part past plan rest same seem show side"
    " so some soon stay step sure take talk tell than that them then they this time to told took try up very want we"
    " week well went were what when will wish with word work year yes yet"
).split()


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One answer. `num_tokens` counts all that is sampled, `num_content` those of the text."""

    text: str
    num_tokens: int
    num_content: int
    finish: str = "stop"
    probabilities: dict[str, float] | None = None


class Answers(Protocol):
    """Says what is answered to a request."""

    def answer(self, request: Request) -> Answer:
        """Return the answer; the same for every attempt."""


class Phrase(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the free text of a purpose. `cue`: only if the system text holds it; `share`: how often."""

    before: tuple[str, ...] = ()
    after: str = ""
    cue: str = ""
    share: float = 1.0


PHRASES: Final[Mapping[str, Phrase]] = {
    "diagnosis": Phrase(before=("Diagnosis: Depression. ", "Diagnosis: Anxiety disorder. ", "Diagnosis: Insomnia. ")),
    "therapist_turn": Phrase(after=" [end of session]", cue="[end of session]", share=0.02),
}
"""By purpose. A simulated therapist that may end a session does so after 1 in 50 of its turns."""


def _make_prose() -> tuple[str, tuple[int, ...]]:
    words = random.Random("prose").choices(WORDS, k=1 << 14)
    return " ".join(words), tuple(accumulate((len(word) + 1 for word in words), initial=0))


_PROSE, _STARTS = _make_prose()
_MAX_WORDS: Final = 1 << 13


def prose(draw: int, num_tokens: int) -> str:
    """Return words of about that many tokens; 52 bits of `draw` tell texts apart where there is room for them."""
    opening = [WORDS[draw >> shift & 127] for shift in range(0, 28, 7)][:num_tokens]
    num_words = min(num_tokens - len(opening), _MAX_WORDS)
    first = (draw >> 28) & (_MAX_WORDS - 1)
    rest = _PROSE[_STARTS[first] : _STARTS[first + num_words] - 1] if num_words > 0 else ""
    return " ".join([*opening, rest]) if rest else " ".join(opening)


class SampledAnswers:
    """Answers of drawn lengths. `weights` holds the options' shares by purpose; an unknown purpose draws evenly."""

    def __init__(
        self,
        seed: int,
        lengths: LengthSampler,
        *,
        weights: Mapping[str, Mapping[str, float]] | None = None,
        phrases: Mapping[str, Phrase] = PHRASES,
    ) -> None:
        self._seed = f"{seed} ".encode()
        self._lengths = lengths
        self._weights = weights or {}
        self._phrases = phrases
        self._shares = lru_cache(256)(self._shares_of)

    def answer(self, request: Request) -> Answer:
        """Return the answer."""
        place = f"{request.episode} {request.path}".encode("utf-8", "surrogatepass")
        draw = int.from_bytes(hashlib.blake2b(self._seed + place, digest_size=16).digest(), "big")
        uniform = (draw & 0xFFFFFFFF) / (1 << 32)
        if isinstance(request.value, Choice):
            return self._choose(request.purpose, request.value, uniform)
        key = (request.episode, request.path)
        length, is_cut = self._lengths.draw((request.role, request.purpose), key, uniform, request.sampling.max_tokens)
        if isinstance(request.value, Fields):
            return _state(request.value, draw >> 32, length, request.sampling.max_tokens)
        length = max(length, min(2, request.sampling.max_tokens))
        num_content = length if is_cut else max(length - 1, 1)
        text = self._phrased(request, draw, prose(draw >> 64, num_content))
        return Answer(text, length, num_content, "length" if is_cut else "stop")

    def _choose(self, purpose: str, schema: Choice, uniform: float) -> Answer:
        weights = self._shares(purpose, schema)
        left = uniform
        chosen = schema.options[-1]
        for option, share in weights.items():
            left -= share
            if left < 0:
                chosen = option
                break
        num_content = bytes_count(chosen)
        return Answer(chosen, num_content + 1, num_content, probabilities=weights)

    def _shares_of(self, purpose: str, schema: Choice) -> dict[str, float]:
        known = self._weights.get(purpose, {})
        offered = {option: known[option] for option in schema.options if known.get(option, 0.0) > 0}
        return shares(offered) if offered else uniform_weights(schema)

    def _phrased(self, request: Request, draw: int, text: str) -> str:
        phrase = self._phrases.get(request.purpose)
        if phrase is None or (draw >> 32 & 0xFFFFFFFF) >= phrase.share * (1 << 32):
            return text
        if phrase.cue and phrase.cue not in request.messages[0].text:
            return text
        before = phrase.before[(draw >> 64) % len(phrase.before)] if phrase.before else ""
        return f"{before}{text}{phrase.after}"


def _state(schema: Fields, draw: int, length: int, max_tokens: int) -> Answer:
    """Return a JSON object with every field, of about `length` tokens; it always closes."""
    room = max(length // len(schema.names) - 8, 1)
    fields = {name: prose(draw + number, room)[: schema.max_chars].rstrip() for number, name in enumerate(schema.names)}
    text = msgspec.json.encode(fields).decode()
    num_content = max(min(bytes_count(text), max_tokens - 1), 1)
    return Answer(text, num_content + 1, num_content)


class RecordedAnswers:
    """The answers of recorded episodes, word for word; steps that were not recorded get those of `fallback`."""

    def __init__(self, records: Iterable[EpisodeRecord], fallback: Answers) -> None:
        self._fallback = fallback
        self._answers: dict[tuple[str, str], Answer] = {}
        for record in records:
            for step in record.steps:
                if step.reply is not None:
                    reply = step.reply
                    num_tokens = max(reply.usage.completion_tokens, 1)
                    num_content = num_tokens if reply.is_cut_off else max(num_tokens - 1, 1)
                    answer = Answer(reply.text, num_tokens, num_content, reply.finish, reply.probabilities)
                    self._answers[record.episode, step.path] = answer

    def answer(self, request: Request) -> Answer:
        """Return the recorded answer."""
        return self._answers.get((request.episode, request.path)) or self._fallback.answer(request)


class Similarities:
    """Similarities by pair of texts: near 1 with probability `match`, near 0 otherwise; recorded ones as they were."""

    def __init__(self, seed: int, match: float = 0.5, records: Iterable[EpisodeRecord] = ()) -> None:
        if not 0 <= match <= 1:
            raise ValueError(f"the match probability must be 0..1, got {match}")
        self._seed = zlib.crc32(str(seed).encode())
        self._match = match
        self._known = {
            pair: cosine
            for record in records
            for step in record.steps
            for pair, cosine in zip(step.pairs, step.floats, strict=False)
        }
        self._draw = lru_cache(1 << 16)(self._draw_one)

    def of(self, pairs: Sequence[tuple[str, str]]) -> tuple[float, ...]:
        """Return the similarity of each pair."""
        known = self._known
        return tuple([known[pair] if pair in known else self._draw(pair) for pair in pairs])

    def _draw_one(self, pair: tuple[str, str]) -> float:
        first = zlib.crc32(pair[0].encode("utf-8", "surrogatepass"), self._seed)
        mixed = zlib.crc32(pair[1].encode("utf-8", "surrogatepass"), first)
        noise = zlib.crc32(mixed.to_bytes(4, "big"), first) / (1 << 32) * 0.09
        return round((0.9 if mixed < self._match * (1 << 32) else 0.0) + noise, 6)
