"""One dialogue: drives a protocol generator from answers to open steps; pure.

A dialogue knows no clock, task, model or attempt. It is told answers (`deliver`) and spent budgets (`fail`) by path and
returns the steps that became open. Stored answers are fed first: a replayed dialogue arrives exactly where it was.
Invariant: every leaf step has a path unique in its episode; a `Parallel` resumes only after all its branches ended.
"""

import functools
import traceback
from collections.abc import Generator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from engine.api_keys import hide
from engine.errors import ProtocolDrift, StepFailed
from engine.history import Answer, History, Place
from engine.steps import Enter, Generate, Leaf, Parallel, Protocol, Similarity, Step

__all__ = ["Answer", "Dialogue", "Stored"]

T = TypeVar("T")
Stored: TypeAlias = Mapping[str, tuple[bytes, Answer]]


@functools.lru_cache(maxsize=4096)
def _place(order: Place, number: int) -> Place:
    """Return a place in program order; dialogues of one protocol share them."""
    return (*order, number)


class _Frame:
    """One running generator and the slot of the join its result goes to."""

    __slots__ = ("generator", "join", "num_steps", "order", "slot")

    def __init__(
        self, generator: Generator[Step, Any, Any], join: "_Join | None", slot: int, order: Place = ()
    ) -> None:
        self.generator = generator
        self.join = join
        self.slot = slot
        self.order = order
        self.num_steps = 0

    def place(self) -> Place:
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

# The lists of a dialogue that waits for answers, which is what nearly all do nearly always. Nobody appends to it.
_AT_REST: Final[list[Any]] = []


class Dialogue(Generic[T]):
    """One protocol being played.

    `phase` is the phase entered last. `outcome` or `error` is set once `is_done`. What was asked and answered is kept
    compactly: each call of `steps`, `answers`, `in_order` or `hashes` makes it anew.
    """

    __slots__ = ("_agenda", "_history", "_opened", "_stored", "error", "is_done", "outcome", "phase")

    def __init__(self, protocol: Protocol[T], stored: Stored | None = None) -> None:
        self.phase = ""
        self.outcome: T | None = None
        self.error: StepFailed | None = None
        self.is_done = False
        self._history: History[_Asker] = History.empty()
        self._stored: dict[str, tuple[bytes, Answer]] | None = dict(stored) if stored else None
        self._opened: list[Leaf] = []
        self._agenda: list[tuple[_Frame, Any, StepFailed | None]] = [(_Frame(protocol, None, 0), None, None)]

    @property
    def steps(self) -> dict[str, Leaf]:
        """All steps asked so far by path, in the order they were asked."""
        return self._history.steps()

    @property
    def answers(self) -> dict[str, Answer]:
        """All answers so far by path, in the order they came."""
        return self._history.answers()

    def in_order(self) -> list[Leaf]:
        """Return all steps asked so far in program order."""
        return self._history.in_order()

    def hashes(self) -> dict[str, bytes]:
        """Return the hash of each step answered so far, by path."""
        return self._history.hashes()

    def start(self) -> list[Leaf]:
        """Run to the first open steps and return them. Raises `ProtocolDrift` when a stored answer does not fit."""
        return self._run()

    def deliver(self, path: str, answer: Answer, digest: bytes = b"") -> list[Leaf]:
        """Give the answer of an open step, and its hash where the caller has it; return the steps that opened.

        Raises `ProtocolDrift` as `start` does.
        """
        asker = self._history.answer(path, answer, digest)
        self._opened, self._agenda = [], []
        if isinstance(asker, _Frame):
            return self._run(asker, answer)
        self._close(asker, answer, None)
        return self._run()

    def fail(self, path: str, error: StepFailed) -> list[Leaf]:
        """Say that an open step's budget is spent; raised at its yield once its siblings have ended."""
        asker = self._history.give_up(path)
        self._opened, self._agenda = [], []
        self._close(asker, None, error)
        return self._run()

    def _run(self, frame: _Frame | None = None, value: Any = None, error: StepFailed | None = None) -> list[Leaf]:
        """Resume this generator, if any, and those on the agenda until all are suspended or ended."""
        agenda = self._agenda
        while frame is not None or agenda:
            if frame is None:
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
                if isinstance(step, Generate):
                    value, error = self._open(step, frame, frame.place()), None
                    if value is not None:
                        continue
                else:
                    self._dispatch(frame, step)
            frame = None
        opened, self._opened, self._agenda = self._opened, _AT_REST, _AT_REST
        return opened

    def _dispatch(self, frame: _Frame, step: object) -> None:
        if isinstance(step, Similarity):
            self._ask(step, frame, frame.place())
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
                self._ask(branch, (join, slot), frame.place())
            else:
                generator = branch if isinstance(branch, Generator) else _single(branch)
                starts.append((_Frame(generator, join, slot, frame.place()), None, None))
        self._agenda.extend(reversed(starts))

    def _ask(self, step: Leaf, asker: _Asker, place: Place) -> None:
        answer = self._open(step, asker, place)
        if answer is not None:
            self._close(asker, answer, None)

    def _open(self, step: Leaf, asker: _Asker, place: Place) -> Answer | None:
        """Add a step; return its answer if that is stored, for whoever asked."""
        if not self._history.ask(step, place, asker):
            problem = f"paths must be unique in an episode, got {step.path!r} twice"
            self._close(asker, None, StepFailed("protocol_error", problem, step.path))
            return None
        path = step.path
        stored = self._stored.pop(path, None) if self._stored else None
        if stored is None:
            self._opened.append(step)
            return None
        digest, answer = stored
        if digest != step.hash:
            raise ProtocolDrift(f"step {path!r} asks something else than when its answer was journalled")
        self._history.answer(path, answer, digest)
        return answer

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
    return StepFailed(
        "protocol_error", f"{type(bug).__name__}: {hide(str(bug))} ({name}:{where.lineno} in {where.name})"
    )
