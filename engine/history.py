"""What a dialogue keeps of its steps and their answers: compact, and given back as what they were; pure.

With 100,000 live dialogues of 20 replies each, every byte beside a text counts two million times: so numbers are
packed, what all dialogues have in common is one object, and steps and replies are made again when somebody asks.
Invariant: what comes back equals what went in. Knows nothing of generators, and of order only the places it is given.
"""

import functools
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from engine.steps import Generate, Leaf, Reply, Sampling, Usage, ValueSchema
from engine.views import DIGEST_BYTES, Log, View

A = TypeVar("A")
Answer: TypeAlias = Reply | tuple[float, ...]
Place: TypeAlias = tuple[int, ...]

MAX_FORMS: Final = 8192
"""Forms shared by all dialogues; when there are more, sharing begins anew."""

# Size of the step's view, usage (three counts), and three times. All exact: times stay 64-bit floats.
_FIGURES: Final = struct.Struct("<4I3d")
_COLUMNS: Final = 4


class _Form(msgspec.Struct, frozen=True, gc=False):
    """What a generation asks beside its view, and its place: the same in all dialogues of a protocol."""

    path: str
    place: Place
    role: str
    purpose: str
    sampling: Sampling
    value: ValueSchema | None

    def fits(self, step: Generate, place: Place) -> bool:
        """Whether it says all of `step` but its view, and with the same bytes."""
        mine, its = self.sampling, step.sampling
        return (
            self.place == place
            and self.role == step.role
            and self.purpose == step.purpose
            and (mine is its or (mine == its and _types(mine) == _types(its)))
            and (self.value is step.value or self.value == step.value)
        )


# What waits for an answer, or never got one: the step, its place, its number among the steps asked, and who asked;
# None once nothing is waited for.
_Open: TypeAlias = tuple[Leaf, Place, int, A | None]
_forms: dict[str, _Form] = {}


class History(msgspec.Struct, Generic[A], eq=False, gc=False):
    """The steps of one dialogue in the order they were asked, and their answers in the order they came.

    Remembers who asked (an `A`) until the answer is there.
    """

    _asked: dict[str, "_Open[A] | _Form"]
    # Of each answer in turn: text, sampled ids, the log of the step's view, and what replies have in common.
    _columns: list[Any]
    # Bytes, not a bytearray: that would hold an eighth more than it needs.
    _figures: bytes = b""
    # Hashes of the answered steps, end to end, as far as they were given.
    _hashes: bytes = b""
    # Number of the step of each answer, once an answer came before that of a step asked earlier.
    _order: list[int] | None = None
    # Similarities, and replies that do not fit the columns, by number of the answer.
    _whole: dict[int, Answer] | None = None

    @classmethod
    def empty(cls) -> "History[A]":
        """Return a history without steps."""
        return cls({}, [])

    def ask(self, step: Leaf, place: Place, asker: A) -> bool:
        """Add a step; return whether its path is new. All dialogues share one object for a path."""
        path = sys.intern(step.path)
        msgspec.structs.force_setattr(step, "path", path)
        asked = self._asked
        if path in asked:
            return False
        asked[path] = (step, place, len(asked), asker)
        return True

    def answer(self, path: str, answer: Answer, digest: bytes = b"") -> A:
        """Add the answer of an open step, and the step's hash where it is known; return who asked."""
        step, place, number, asker = self._waiting(path)
        log, size = None, 0
        if isinstance(step, Generate):
            view = step.view
            log, size = view.log, view.size
            form = _forms.get(path)
            # The short way, by identity: role, purpose and place are nearly always one object for all dialogues.
            if (
                form is None
                or form.place is not place
                or form.sampling is not step.sampling
                or form.purpose is not step.purpose
                or form.role is not step.role
                or form.value is not step.value
            ):
                form = _form(step, place)
            self._asked[path] = form
        else:
            self._asked[path] = (step, place, number, None)
        if digest:
            self._hashes += digest
        if self._order is not None or number != len(self._columns) // _COLUMNS:
            self._reorder(number)
        if not (isinstance(answer, Reply) and answer.probabilities is None and self._put(answer, log, size)):
            self._put_whole(answer, log, size)
        return asker

    def _reorder(self, number: int) -> None:
        if self._order is None:
            self._order = list(range(len(self._columns) // _COLUMNS))
        self._order.append(number)

    def give_up(self, path: str) -> A:
        """Say that an open step gets no answer; return who asked."""
        step, place, number, asker = self._waiting(path)
        self._asked[path] = (step, place, number, None)
        return asker

    def _waiting(self, path: str) -> tuple[Leaf, Place, int, A]:
        """Return the entry of an open step. Raises KeyError for one that was never asked, or is open no more."""
        entry = self._asked[path]
        if isinstance(entry, _Form):
            raise KeyError(path)
        step, place, number, asker = entry
        if asker is None:
            raise KeyError(path)
        return step, place, number, asker

    def _put(self, reply: Reply, log: Log | None, size: int) -> bool:
        """Put a reply into the columns; return whether it fits: an endpoint may claim any usage."""
        usage = reply.usage
        try:
            figures = _FIGURES.pack(
                size,
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.cached_tokens,
                reply.started_at,
                reply.queue_s,
                reply.latency_s,
            )
        except struct.error:
            return False
        common = _common(
            reply.finish, reply.tokenizer, reply.model, reply.replica, reply.weights, reply.attempt, reply.num_rendered
        )
        self._figures += figures
        self._columns += (reply.text, reply.token_ids, log, common)
        return True

    def _put_whole(self, answer: Answer, log: Log | None, size: int) -> None:
        if self._whole is None:
            self._whole = {}
        self._whole[len(self._figures) // _FIGURES.size] = answer
        self._figures += _FIGURES.pack(size, 0, 0, 0, 0.0, 0.0, 0.0)
        self._columns += ("", b"", log, None)

    def steps(self) -> dict[str, Leaf]:
        """Return the steps asked so far by path, in the order they were asked."""
        views = {number: View(log, size) for number, size, log in self._seen()}
        return {path: _step(entry, views.get(number)) for number, (path, entry) in enumerate(self._asked.items())}

    def in_order(self) -> list[Leaf]:
        """Return the steps asked so far in order of their places."""
        places = [entry.place if isinstance(entry, _Form) else entry[1] for entry in self._asked.values()]
        steps = list(self.steps().values())
        return [steps[index] for index in sorted(range(len(steps)), key=places.__getitem__)]

    def answers(self) -> dict[str, Answer]:
        """Return the answers so far by path, in the order they came."""
        whole = self._whole or {}
        answers = (whole[at] if at in whole else self._reply(at, row) for at, row in enumerate(self._rows()))
        return dict(zip(self._paths(), answers, strict=True))

    def hashes(self) -> dict[str, bytes]:
        """Return the hash of each step answered so far, by path in the order of answers."""
        known, paths = self._hashes, self._paths()
        if len(known) != DIGEST_BYTES * len(paths):
            steps = self.steps()
            return {path: steps[path].hash for path in paths}
        return {path: known[DIGEST_BYTES * n : DIGEST_BYTES * (n + 1)] for n, path in enumerate(paths)}

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        return _FIGURES.iter_unpack(self._figures)

    @property
    def _numbers(self) -> Sequence[int]:
        """Number of the step of each answer."""
        return range(len(self._columns) // _COLUMNS) if self._order is None else self._order

    def _paths(self) -> list[str]:
        asked = list(self._asked)
        return [asked[number] for number in self._numbers]

    def _seen(self) -> Iterator[tuple[int, int, Log]]:
        """Yield number, size and log of the view of each generation answered."""
        for number, row, log in zip(self._numbers, self._rows(), self._columns[2::_COLUMNS], strict=True):
            if log is not None:
                yield number, row[0], log

    def _reply(self, at: int, row: tuple[Any, ...]) -> Reply:
        text, token_ids, _, common = self._columns[_COLUMNS * at : _COLUMNS * (at + 1)]
        _, prompt, completion, cached, started_at, queue_s, latency_s = row
        return Reply(
            text,
            common.finish,
            token_ids,
            common.tokenizer,
            None,
            Usage(prompt, completion, cached),
            common.model,
            common.replica,
            common.weights,
            common.attempt,
            started_at,
            queue_s,
            latency_s,
            common.num_rendered,
        )


@functools.lru_cache(maxsize=1024)
def _common(
    finish: str, tokenizer: str, model: str, replica: str, weights: str, attempt: int, num_rendered: int
) -> Reply:
    """Return what many replies have in common, as a reply that says nothing."""
    return Reply(
        "",
        finish,
        tokenizer=tokenizer,
        model=model,
        replica=replica,
        weights=weights,
        attempt=attempt,
        num_rendered=num_rendered,
    )


def _form(step: Generate, place: Place) -> _Form:
    """Return the one form for all dialogues that ask `step` at this place."""
    path = step.path
    form = _forms.get(path)
    if form is None or not form.fits(step, place):
        if len(_forms) >= MAX_FORMS:
            _forms.clear()
        form = _forms[path] = _Form(path, place, step.role, step.purpose, step.sampling, step.value)
    return form


def _step(entry: _Open[A] | _Form, view: View | None) -> Leaf:
    if not isinstance(entry, _Form):
        return entry[0]
    assert view is not None
    return Generate(entry.path, entry.role, view, entry.sampling, entry.purpose, entry.value)


def _types(sampling: Sampling) -> tuple[type, ...]:
    return type(sampling.max_tokens), type(sampling.temperature), type(sampling.top_p)
