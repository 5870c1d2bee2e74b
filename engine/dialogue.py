"""One dialogue: drives a protocol generator from answers to open steps; pure.

A dialogue knows no clock, task, model or attempt. It is told answers (`deliver`) and spent budgets (`fail`) by path and
returns the steps that became open. Stored answers are fed first: a replayed dialogue arrives exactly where it was.
Invariant: every leaf step has a path unique in its episode; a `Parallel` resumes only after all its branches ended.
"""

import functools
import sys
import traceback
from collections.abc import Generator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from engine.errors import ProtocolDrift, StepFailed
from engine.steps import Enter, Generate, Leaf, Parallel, Protocol, Reply, Similarity, Step

T = TypeVar("T")
Answer: TypeAlias = Reply | tuple[float, ...]
Stored: TypeAlias = Mapping[str, tuple[bytes, Answer]]


HASH_BYTES: Final = 16


@functools.lru_cache(maxsize=4096)
def _place(order: tuple[int, ...], number: int) -> tuple[int, ...]:
    """Return a place in program order; dialogues of one protocol share them."""
    return (*order, number)


class _Frame:
    """One running generator and the slot of the join its result goes to."""

    __slots__ = ("generator", "join", "num_steps", "order", "slot")

    def __init__(
        self, generator: Generator[Step, Any, Any], join: "_Join | None", slot: int, order: tuple[int, ...] = ()
    ) -> None:
        self.generator = generator
        self.join = join
        self.slot = slot
        self.order = order
        self.num_steps = 0

    def place(self) -> tuple[int, ...]:
        """Return the next place in program order: it depends on the protocol's text alone, never on arrival."""
        self.num_steps += 1
        return _place(self.order, self.num_steps)


class _Join:
    """What a frame suspended at a `Parallel` waits for: one result per branch."""

    __slots__ = ("errors", "frame", "num_open", "results")

    def __init__(self, frame: _Frame, size: int) -> None:
        self.frame = frame
        self.results: list[Any] = [None] * size
        self.errors: dict[int, StepFailed] = {}
        self.num_open = size

    def close(self, slot: int, value: Any, error: StepFailed | None) -> bool:
        """Record one branch's end; return whether all have ended."""
        self.num_open -= 1
        self.results[slot] = value
        if error is not None:
            self.errors[slot] = error
        return self.num_open == 0

    @property
    def error(self) -> StepFailed | None:
        """The first failure in declared order."""
        return self.errors[min(self.errors)] if self.errors else None


# Who gets a leaf's answer: the frame that yielded it, or a branch of a join.
_Asker: TypeAlias = _Frame | tuple[_Join, int]


class Dialogue(Generic[T]):
    """One protocol being played.

    `steps` maps path to each leaf asked so far, `answers` to what came back; `phase` is the phase entered last.
    `outcome` or `error` is set once `is_done`.
    """

    __slots__ = (
        *("_agenda", "_hashes", "_opened", "_places", "_stored", "_waiting"),
        *("answers", "error", "is_done", "outcome", "phase", "steps"),
    )

    def __init__(self, protocol: Protocol[T], stored: Stored | None = None) -> None:
        self.steps: dict[str, Leaf] = {}
        self.answers: dict[str, Answer] = {}
        self.phase = ""
        self.outcome: T | None = None
        self.error: StepFailed | None = None
        self.is_done = False
        self._stored: dict[str, tuple[bytes, Answer]] | None = dict(stored) if stored else None
        self._waiting: dict[str, _Asker] = {}
        self._opened: list[Leaf] = []
        # Hashes of the steps answered, in order of `answers`, end to end: an object for each would weigh four times as
        # much.
        self._hashes = bytearray()
        # Place of each step in program order, beside `steps` in the order they were asked.
        self._places: list[tuple[int, ...]] = []
        self._agenda: list[tuple[_Frame, Any, StepFailed | None]] = [(_Frame(protocol, None, 0), None, None)]

    def in_order(self) -> list[Leaf]:
        """Return all steps asked so far in program order."""
        leaves = list(self.steps.values())
        places = self._places
        return [leaves[index] for index in sorted(range(len(leaves)), key=places.__getitem__)]

    def start(self) -> list[Leaf]:
        """Run to the first open steps and return them. Raises `ProtocolDrift` when a stored answer does not fit."""
        return self._run()

    def hashes(self) -> dict[str, bytes]:
        """Return the hash of each step answered so far, by path."""
        kept = self._hashes
        if len(kept) != HASH_BYTES * len(self.answers):
            return {path: self.steps[path].hash for path in self.answers}
        return {path: bytes(kept[HASH_BYTES * n : HASH_BYTES * (n + 1)]) for n, path in enumerate(self.answers)}

    def deliver(self, path: str, answer: Answer, digest: bytes = b"") -> list[Leaf]:
        """Give the answer of an open step, and its hash where the caller has it; return the steps that opened.

        Raises `ProtocolDrift` as `start` does.
        """
        asker = self._waiting.pop(path)
        self.answers[path] = answer
        if digest:
            self._hashes += digest
        self._close(asker, answer, None)
        return self._run()

    def fail(self, path: str, error: StepFailed) -> list[Leaf]:
        """Say that an open step's budget is spent; raised at its yield once its siblings have ended."""
        self._close(self._waiting.pop(path), None, error)
        return self._run()

    def _run(self) -> list[Leaf]:
        """Resume generators until all are suspended or ended."""
        agenda = self._agenda
        while agenda:
            frame, value, error = agenda.pop()
            try:
                step = frame.generator.send(value) if error is None else frame.generator.throw(error)
            except StopIteration as stop:
                self._end(frame, stop.value, None)
            except StepFailed as failed:
                self._end(frame, None, failed)
            except Exception as bug:  # noqa: BLE001 - a protocol's bug ends its own episode, as data, never the run
                self._end(frame, None, _protocol_error(bug))
            else:
                self._dispatch(frame, step)
        opened, self._opened = self._opened, []
        return opened

    def _dispatch(self, frame: _Frame, step: object) -> None:
        if isinstance(step, Generate) or isinstance(step, Similarity):
            self._open(step, frame, frame.place())
        elif isinstance(step, Enter):
            self.phase = step.phase
            self._agenda.append((frame, None, None))
        elif isinstance(step, Parallel):
            self._fork(frame, step.branches)
        else:
            problem = f"a protocol must yield steps, got {type(step).__name__}: use the helpers of engine.steps"
            self._agenda.append((frame, None, StepFailed("protocol_error", problem)))

    def _fork(self, frame: _Frame, branches: tuple[Step | Generator[Step, Any, Any], ...]) -> None:
        join = _Join(frame, len(branches))
        if not branches:
            self._agenda.append((frame, [], None))
        # The agenda is a stack: pushed in reverse, branches start in declared order.
        starts: list[tuple[_Frame, Any, StepFailed | None]] = []
        for slot, branch in enumerate(branches):
            if isinstance(branch, Generate | Similarity):
                self._open(branch, (join, slot), frame.place())
            else:
                generator = branch if isinstance(branch, Generator) else _single(branch)
                starts.append((_Frame(generator, join, slot, frame.place()), None, None))
        self._agenda.extend(reversed(starts))

    def _open(self, step: Leaf, asker: _Asker, place: tuple[int, ...]) -> None:
        # One object for a path in all dialogues, instead of two in each.
        path = sys.intern(step.path)
        msgspec.structs.force_setattr(step, "path", path)
        if path in self.steps:
            problem = f"paths must be unique in an episode, got {path!r} twice"
            self._close(asker, None, StepFailed("protocol_error", problem, path))
            return
        self.steps[path] = step
        self._places.append(place)
        stored = self._stored.pop(path, None) if self._stored else None
        if stored is None:
            self._waiting[path] = asker
            self._opened.append(step)
            return
        if stored[0] != step.hash:
            raise ProtocolDrift(f"step {path!r} asks something else than when its answer was journalled")
        self.answers[path] = stored[1]
        self._hashes += stored[0]
        self._close(asker, stored[1], None)

    def _close(self, asker: _Asker, value: Any, error: StepFailed | None) -> None:
        """Hand a branch's end to whoever asked; a join resumes its frame once all branches have ended."""
        if isinstance(asker, _Frame):
            self._agenda.append((asker, value, error))
            return
        join, slot = asker
        if join.close(slot, value, error):
            self._agenda.append((join.frame, join.results, join.error))

    def _end(self, frame: _Frame, value: Any, error: StepFailed | None) -> None:
        if frame.join is not None:
            self._close((frame.join, frame.slot), value, error)
            return
        self.outcome, self.error, self.is_done = value, error, True


def _single(step: Step) -> Generator[Step, Any, Any]:
    """Wrap a bare Enter or Parallel branch as a protocol."""
    result = yield step
    return result


def _protocol_error(bug: Exception) -> StepFailed:
    """Turn a protocol's own exception into a failure that names the line."""
    where = traceback.extract_tb(bug.__traceback__)[-1]
    name = where.filename.rsplit("/", 1)[-1]
    return StepFailed("protocol_error", f"{type(bug).__name__}: {bug} ({name}:{where.lineno} in {where.name})")
