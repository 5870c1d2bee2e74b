"""Where hidden texts of an episode reach a role that must not know them; pure.

Two ways: a prompt holds them (`view`), or the role says them itself (`words`), in both cases before the patient has
said them. Whatever the patient's model has written counts as said. The hidden texts come from the case in the record;
an episode without a readable case cannot be traced.
"""

from collections.abc import Collection, Iterator
from typing import Final, Literal

import msgspec

from engine.cases.schema import Case
from engine.record import EpisodeRecord, StepRecord
from eval.detectors.finding import Finding
from eval.detectors.leaks import Key, first_leak, hidden_of

KNOWING: Final = ("patient", "judge")
"""Roles that know the case: the one it is about, and the one that rates its portrayal."""

PROBES: Final = ("probe",)
"""Purposes that may put the case's situation to a role, to ask what it would predict: a fork that leaves no trace."""


class Leak(msgspec.Struct, frozen=True, gc=False):
    """One leak: the step at which it shows, whose it is, and the words."""

    path: str
    role: str
    place: Literal["view", "words"]
    finding: Finding


def case_of(record: EpisodeRecord) -> Case | None:
    """Return the case of a record, None when it has none that can be read."""
    try:
        return msgspec.json.decode(record.case, type=Case) if record.case else None
    except msgspec.MsgspecError:
        return None


def leaks_of(
    record: EpisodeRecord, *, patient: str = "patient", knowing: Collection[str] = KNOWING
) -> list[Leak] | None:
    """Return the leaks of an episode in program order, None when its case is not known.

    Each prompt message and each reply counts once per role.
    """
    case = case_of(record)
    if case is None:
        return None
    return list(_Trace(record, case).leaks(patient, knowing))


class _Trace:
    """One episode gone through in program order, with what the patient has said so far."""

    def __init__(self, record: EpisodeRecord, case: Case) -> None:
        self._record = record
        self._hidden = hidden_of(case.hidden_texts, case.name)
        self._situation = frozenset(self._hidden.spans(case.situation))
        self._said: set[Key] = set()
        self._checked: set[tuple[str, int]] = set()
        # A turn comes back in the views of all that follow it: each text is looked at once.
        self._spans: dict[str, dict[Key, tuple[int, int]]] = {}

    def leaks(self, patient: str, knowing: Collection[str]) -> Iterator[Leak]:
        for step in self._record.steps:
            if step.role == patient and step.reply is not None:
                self._said.update(self._repeated(step.reply.text))
            elif step.role and step.role not in knowing:
                yield from self._of_step(step, self._situation if step.purpose in PROBES else frozenset())

    def _of_step(self, step: StepRecord, given: frozenset[Key]) -> Iterator[Leak]:
        """Yield the leaks of one step; what was looked at before in the same role's views is passed over."""
        index = step.view
        while index >= 0 and (step.role, index) not in self._checked:
            self._checked.add((step.role, index))
            node = self._record.nodes[index]
            found = self._leak(node.text, given) if node.role != "assistant" else None
            if found is not None:
                yield Leak(step.path, step.role, "view", found)
            index = node.parent
        found = self._leak(step.reply.text, given) if step.reply is not None else None
        if found is not None:
            yield Leak(step.path, step.role, "words", found)

    def _leak(self, text: str, given: frozenset[Key]) -> Finding | None:
        return first_leak(text, self._repeated(text), self._said | given if given else self._said)

    def _repeated(self, text: str) -> dict[Key, tuple[int, int]]:
        spans = self._spans.get(text)
        if spans is None:
            spans = self._spans[text] = self._hidden.spans(text)
        return spans
