"""What the row `real_exam` plays: exam items, each shown behind answered examples that all items of its set share.

The items are composed of sampled cases, so that the row needs no data. Where the environment variable
SANDPLAY_EXAM_DATA names a folder of the published biomedical sets, those are put instead, every item once. One item is
one episode of one call. Nothing here knows an engine or a score.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.real.workload import POOL, Workload
from engine.cases.sampler import sample_cases
from engine.cases.schema import Case
from engine.cases.typed import GIVEN
from engine.errors import InputError
from engine.planning import Given, Plan, make_plan
from engine.protocols.exam import draw_options
from eval.exam import EXAMINEE, Materials, Pool, Source
from eval.exam.planning import PROTOCOL, plan_exam
from eval.items import Item, Option
from eval.tasks.task import LETTERS

DATA: Final = "SANDPLAY_EXAM_DATA"
SETS: Final = ("medqa", "medmcqa", "pubmedqa", "mmlu")
"""Folders of the published sets, each named after its task."""
COMPOSED: Final = "composed"
FORM: Final = "medqa"
"""The task that composed items are put as: a described person, four options, one letter."""
NUM_OPTIONS: Final = 4
QUESTION: Final = (
    "{case.history} {case.situation} {case.behavior} Asked what went through the mind at that moment, the answer is:"
    ' "{case.auto_thought}" Feelings named: {case.emotion_text}. Which of the following fits this description best?'
)
"""A composed question; about as long as one of MedQA."""
INHERITED: Final = ("exchanges", "is_arena")
"""What a workload of sessions has and an exam has no use for."""


class ExamWorkload(Workload, frozen=True, kw_only=True):
    """`num_dialogues` items, each behind `num_shots` examples, answered greedily in at most `tokens[1]` tokens.

    `data` is the folder of the published sets, "" where items are composed; `sets` then says how many items of which
    set there are, `num_dialogues` how many in all. Published sets bring no examples of their own: an item is shown the
    first others of its set, so that all but the first few of a set begin alike. `slots` is what a served model has
    unless it is told otherwise.
    """

    num_dialogues: int = 256
    tokens: tuple[int, int] = (16, 16)
    temperature: float = 0.0
    slots: int = 64
    num_shots: int = 5
    data: str = ""
    sets: dict[str, int] = {}

    def configuration(self) -> dict[str, Any]:
        """Return what a figure says of its workload; where the published sets lie on this machine is left out."""
        about: dict[str, Any] = msgspec.to_builtins(self)
        kept = {name: value for name, value in about.items() if name not in (*INHERITED, "data", "sets")}
        return {**kept, "items": self.sets or {COMPOSED: self.num_dialogues}}

    def plan(self) -> Plan:
        """Return the exam as a plan. Raises InputError when the published sets are not as they should be."""
        if self.data:
            return plan_exam({**self.table(), "tasks": {name: {"path": name} for name in SETS}}, Path(self.data))
        return make_plan(self.table(), Path.cwd(), given=self._given())

    def table(self) -> dict[str, Any]:
        """Return the exam's configuration, the model as some endpoint."""
        return {
            "seed": self.seed,
            "protocol": {
                "name": PROTOCOL,
                "prompting": "few_shot",
                "num_shots": self.num_shots,
                "max_tokens": self.tokens[1],
                "temperature": self.temperature,
            },
            "cases": {"source": GIVEN},
            "models": {POOL: {"kind": "openai", "model": self.model}},
            "roles": {EXAMINEE: POOL},
        }

    def _given(self) -> Given:
        """Compose the items, and behind them the examples, which are no items themselves."""
        cases = sample_cases(self.num_dialogues + self.num_shots, self.seed)
        items = [compose(case, place, self.seed) for place, case in enumerate(cases, 1)]
        put, shown = items[: self.num_dialogues], items[self.num_dialogues :]
        source = Source(task=FORM, path="sampled cases", sha256="", num_items=len(put))
        return Given(put, Materials({COMPOSED: Pool(FORM, tuple(shown))}, {COMPOSED: source}))


def compose(case: Case, line: int, seed: int) -> Item:
    """Return an item: a person as described, and which of four conditions fits best."""
    texts = draw_options(case.condition, NUM_OPTIONS, seed + line)
    options = tuple(map(Option, LETTERS, texts))
    return Item(
        id=f"{COMPOSED}/{line}",
        task=FORM,
        line=line,
        question=QUESTION.format(case=case),
        options=options,
        gold=LETTERS[texts.index(case.condition)],
        gold_text=case.condition,
    )


def chosen_exam() -> ExamWorkload:
    """Return the published sets in the folder that SANDPLAY_EXAM_DATA names, composed items where it names none.

    Raises InputError when a set is missing from the folder or is not as it should be.
    """
    data = os.environ.get(DATA, "")
    if not data:
        return ExamWorkload()
    if missing := [name for name in SETS if not (Path(data) / name).is_dir()]:
        wanted = f"{DATA} must name a folder that holds {', '.join(SETS)}"
        raise InputError(f"{wanted}, got {data} without {', '.join(missing)}: correct it, or leave it out")
    workload = ExamWorkload(data=str(Path(data).absolute()))
    sets = {name: source.num_items for name, source in workload.plan().shared.sources.items()}
    return msgspec.structs.replace(workload, sets=sets, num_dialogues=sum(sets.values()))


SMALL_EXAM: Final = ExamWorkload(num_dialogues=6, num_shots=2, tokens=(4, 4), slots=4, kv_cache_gib=0.5)
"""Seconds instead of minutes: for tests."""
