"""The bench: what every question of one judging run starts from, and how a judge is asked.

Invariant: one beginning for all questions on a transcript (system text, case file, transcript), so that they share its
prefix; a question goes to the tail of a fork. Everything that we did not write stands fenced. A verdict is read from
the judge's own constrained reply and nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.asking import ask_value
from engine.errors import StepFailed
from engine.protocols.texts import Catalog, Texts
from engine.steps import Generate, Protocol, Reply, Sampling, ask
from engine.values import describe
from engine.views import View
from eval.judging.fence import fence
from eval.judging.rules import JudgeRules
from eval.rubric import STATEMENT, Dimension, Rubric
from eval.transcripts import Transcript, case_statements
from eval.verdicts import Vote

VERDICT_TOKENS: Final = 24

CATALOG: Final = Catalog(
    Path(__file__).parent / "prompts",
    {
        "judge": frozenset({"title", "instructions"}),
        "material": frozenset({"case", "transcript"}),
        "question": frozenset({"question", "role", "turn", "statement", "options"}),
        "reason": frozenset(),
        "verdict": frozenset({"form"}),
        "correct": frozenset({"option", "reasons"}),
        "argue": frozenset({"arguments"}),
        "vote": frozenset({"arguments", "form"}),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question put to the judges.

    `path` is unique in its run and names the verdict; `turn` and `statement` are numbers (1-based) where it is about
    one of them.
    """

    path: str
    dimension: Dimension
    text: str
    turn: int | None = None
    statement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One transcript before its judges. `material` is the view that every question forks from."""

    rules: JudgeRules
    texts: Texts
    material: View
    questions: tuple[Question, ...]

    def ask(self, question: Question) -> View:
        """Return the view of a judge who is asked a question."""
        return self.material.hear(question.text)

    def say(self, path: str, role: str, view: View, purpose: str) -> Protocol[Reply]:
        """Let a judge write freely; what it writes decides nothing."""
        sampling = Sampling(self.rules.max_tokens, self.rules.temperature)
        return ask(Generate(path, role, view, sampling, purpose))

    def choose(self, path: str, role: str, view: View, question: Question, text: str) -> Protocol[str | None]:
        """Return the option that a judge chooses, asked with `text`; None when it names none or is cut off."""
        schema = question.dimension.schema
        step = Generate(
            path, role, view.hear(text), Sampling(VERDICT_TOKENS, self.rules.temperature), "verdict", schema
        )
        return (yield from ask_value(step, max_reasks=0)).choice

    def vote(self, path: str, role: str, view: View, question: Question) -> Protocol[Vote]:
        """Return a judge's vote: its reasons first, where the rules want them, then its verdict."""
        reason = ""
        if self.rules.has_reasons:
            asked = view.hear(self.texts.shared("reason"))
            reply = yield from self.say(f"{path}/reason", role, asked, "reason")
            reason = reply.text.strip()
            view = say(asked, reply) if reason else view
        text = self.texts.shared("verdict", form=describe(question.dimension.schema))
        option = yield from self.choose(f"{path}/verdict", role, view, question, text)
        return Vote(judge=role, option=option, reason=reason)


def say(view: View, reply: Reply) -> View:
    """Append a judge's own turn to its view."""
    return view.say(reply.text, reply.token_ids, reply.tokenizer)


def make_bench(transcript: Transcript, rules: JudgeRules, rubric: Rubric, prompts: Path | None = None) -> Bench:
    """Return the bench of one transcript.

    Raises StepFailed(`no_turns`) for a transcript in which nothing was said, or nothing by the role that is judged,
    StepFailed(`no_case`) where the rubric needs the case and nothing of it is known, InputError for broken prompt
    files.
    """
    statements = case_statements(transcript, rubric.case_fields)
    turns = _judged_turns(transcript, rubric)
    if rubric.case_fields and not statements:
        fields = ", ".join(rubric.case_fields)
        raise StepFailed(
            "no_case", f"rubric {rubric.name!r} must see {fields} of the case, got none in {transcript.id}"
        )
    texts = CATALOG.load(prompts)
    system = texts.shared("judge", title=rubric.title, instructions=rubric.instructions)
    said = [(f"{number} {turn.role}", turn.text) for number, turn in enumerate(transcript.turns, 1)]
    known = [(f"{number} {field}", text) for number, (field, text) in enumerate(statements, 1)]
    material = texts.render(
        "material", case=fence("CASE FILE", known) if known else "", transcript=fence("TRANSCRIPT", said)
    )
    return Bench(
        rules=rules,
        texts=texts,
        material=View.common(system).hear(material),
        questions=tuple(_questions(rubric, texts, turns, statements)),
    )


def _judged_turns(transcript: Transcript, rubric: Rubric) -> list[int]:
    """Return the numbers of the turns that are judged. Raises StepFailed when there are none."""
    turns = [n for n, turn in enumerate(transcript.turns, 1) if turn.role == rubric.role or not rubric.role]
    if not turns:
        who = f"role {rubric.role!r}" if rubric.role else "somebody"
        raise StepFailed("no_turns", f"{who} must have said something to be judged, got no turn in {transcript.id}")
    return turns


def _questions(
    rubric: Rubric, texts: Texts, turns: list[int], statements: tuple[tuple[str, str], ...]
) -> Iterator[Question]:
    """Yield the questions in the order of the rubric: per dimension one, or one per statement or turn."""
    for dimension in rubric.dimensions:
        name = dimension.name
        if dimension.field:
            for number, (field, text) in enumerate(statements, 1):
                if field == dimension.field:
                    shown = _ask(rubric, texts, dimension, statement=(number, text))
                    path = f"{name}/statement/{number}"
                    yield Question(path=path, dimension=dimension, text=shown, statement=number)
        elif rubric.unit == "turn":
            for turn in turns:
                shown = _ask(rubric, texts, dimension, turn=turn)
                yield Question(path=f"{name}/turn/{turn}", dimension=dimension, text=shown, turn=turn)
        else:
            yield Question(path=name, dimension=dimension, text=_ask(rubric, texts, dimension))


def _ask(
    rubric: Rubric,
    texts: Texts,
    dimension: Dimension,
    turn: int | None = None,
    statement: tuple[int, str] | None = None,
) -> str:
    number, text = statement or (0, "")
    # Questions about a statement are one case's own; the others are the same for all transcripts.
    fill = texts.render if statement else texts.shared
    return fill(
        "question",
        question=dimension.question.replace(STATEMENT, f"statement {number} of the case file"),
        role=rubric.role if rubric.unit == "role" else "",
        turn=turn or 0,
        statement=fence("STATEMENT", [(str(number), text)]) if text else "",
        options=dimension.options,
    )
