"""Rubrics: what a judge is asked of a transcript, as data; loaded from TOML and checked whole.

A rubric names what is judged, which fields of the case the judge may see, and its dimensions: a question each, with an
ordered scale of anchored points or with yes and no. Invariant: a loaded rubric can be asked as it is. Knows nothing of
pipelines, prompts or models.
"""

import functools
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from engine.cases.schema import nearest, show
from engine.config_decode import decode
from engine.errors import InputError
from engine.steps import Choice

Unit: TypeAlias = Literal["transcript", "role", "turn"]

YES: Final = "yes"
NO: Final = "no"
NOT_APPLICABLE: Final = "not applicable"
STATEMENT: Final = "{statement}"
SUFFIX: Final = ".toml"
MAX_POINTS: Final = 11
MAX_DIMENSIONS: Final = 50

_DIRECTORY: Final = Path(__file__).parent / "rubrics"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_POINT: Final = re.compile(r"-?\d{1,3}")


class Dimension(msgspec.Struct, frozen=True, kw_only=True):
    """One thing judged.

    `anchors` describe each answer: the points of a scale (whole numbers, in order), or `yes` and `no`; `na`, where
    given, says when the question does not apply. `better` is the end of the scale that is wished for (yes is high).
    With `field` the question is asked once per statement of that case field, which it names by `{statement}`.
    """

    name: str
    question: str
    anchors: dict[str, str]
    better: Literal["high", "low"] = "high"
    field: str = ""

    @property
    def is_binary(self) -> bool:
        """Whether it is answered with yes or no."""
        return YES in self.anchors

    @property
    def options(self) -> tuple[tuple[str, str], ...]:
        """The answers with their anchors, in the order they are shown."""
        known = [(NOT_APPLICABLE if key == "na" else key, text) for key, text in self.anchors.items()]
        return tuple(sorted(known, key=lambda option: option[0] == NOT_APPLICABLE))

    @property
    def schema(self) -> Choice:
        """The answers as a value schema."""
        return Choice(tuple(option for option, _ in self.options))


class Rubric(msgspec.Struct, frozen=True, kw_only=True):
    """One rubric.

    `unit` is what a verdict is about: the whole `transcript`, all turns of one `role`, or each `turn` (of `role`, or of
    everybody where `role` is ""). `case_fields` are the only fields of the case that the judge sees. `fingerprint` is
    the SHA-256 (hexadecimal) of the file.
    """

    name: str
    title: str
    instructions: str
    dimensions: tuple[Dimension, ...]
    unit: Unit = "transcript"
    role: str = ""
    case_fields: tuple[str, ...] = ()
    fingerprint: str = ""


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    """The file's own keys; dimensions are decoded one by one, so that all their problems are found."""

    name: str
    title: str
    instructions: str
    dimensions: list[Any]
    unit: Unit = "transcript"
    role: str = ""
    case_fields: tuple[str, ...] = ()


def shipped_rubrics() -> dict[str, Path]:
    """Return the files of the shipped rubrics by name, sorted."""
    return {path.stem: path for path in sorted(_DIRECTORY.glob(f"*{SUFFIX}"))}


def find_rubric(source: str) -> Path:
    """Return the file of a rubric: a shipped name, or the path of a `.toml` file. Raises InputError."""
    shipped = shipped_rubrics()
    if source in shipped:
        return shipped[source]
    path = Path(source)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if is_file and path.suffix == SUFFIX:
        return path
    what = "a file with another ending: rename it" if is_file else f"no such file: did you mean {_near(source)!r}?"
    known = ", ".join(shipped)
    raise InputError(f"rubric must be one of {known} or the path of a {SUFFIX} file, got {show(source, 400)}, {what}")


def _near(source: str) -> str:
    return nearest(Path(source).stem, shipped_rubrics())


@functools.lru_cache(maxsize=64)
def load_rubric(source: str) -> Rubric:
    """Load a rubric by shipped name or path; read once per process. Raises InputError with every problem found."""
    path = find_rubric(source)
    try:
        data = path.read_bytes()
        table = tomllib.loads(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: must be a readable TOML file in UTF-8, got {error}: correct the file") from error
    rubric, problems = read_rubric(table)
    if problems or rubric is None:
        raise InputError([f"{path.name}: {problem}" for problem in problems])
    return msgspec.structs.replace(rubric, fingerprint=hashlib.sha256(data).hexdigest())


def read_rubric(table: Mapping[str, Any]) -> tuple[Rubric | None, list[str]]:
    """Return (the rubric, []) or (None, every problem of the table)."""
    head, problems = decode(_Table, table, "")
    listed = table.get("dimensions")
    dimensions: list[Dimension] = []
    for number, inner in enumerate(listed if isinstance(listed, list) else []):
        dimension, found = decode(Dimension, inner, f"dimensions[{number}].")
        problems += found
        if dimension is not None:
            dimensions.append(dimension)
    problems += [fault for dimension in dimensions for fault in _dimension_problems(dimension)]
    if head is None:
        return None, problems
    values = {name: getattr(head, name) for name in _Table.__struct_fields__ if name != "dimensions"}
    rubric = Rubric(dimensions=tuple(dimensions), **values)
    problems += _problems(rubric, num_listed=len(head.dimensions))
    return (None, problems) if problems else (rubric, [])


def _problems(rubric: Rubric, num_listed: int) -> Iterator[str]:
    """Yield what is wrong with a rubric as a whole."""
    if not _NAME.fullmatch(rubric.name):
        yield f"name must be small letters, digits and _, got {show(rubric.name)}: rename it"
    for key in ("title", "instructions"):
        if not getattr(rubric, key).strip():
            yield f"{key} must not be empty, got '': write it"
    if not 1 <= num_listed <= MAX_DIMENSIONS:
        yield f"dimensions must be 1..{MAX_DIMENSIONS} tables, got {num_listed}: add or remove some"
    names = [dimension.name for dimension in rubric.dimensions]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"dimensions must have names of their own, got {show(name)} twice: rename one"
    if rubric.unit == "role" and not rubric.role:
        yield 'role must be named where unit = "role", got none: set role = "patient", say'
    if rubric.unit == "transcript" and rubric.role:
        yield f'role must be left out where unit = "transcript", got {show(rubric.role)}: remove it, or set unit'
    yield from _field_problems(rubric)


def _field_problems(rubric: Rubric) -> Iterator[str]:
    """Yield dimensions that ask for statements of the case which the judge cannot see, or for too many."""
    for dimension in (one for one in rubric.dimensions if one.field):
        if dimension.field not in rubric.case_fields:
            yield (
                f"dimension {show(dimension.name)}: field must be one of case_fields, got {show(dimension.field)}: "
                "add it to case_fields"
            )
        if rubric.unit == "turn":
            yield (
                f'dimension {show(dimension.name)}: field must be left out where unit = "turn", '
                f'got {show(dimension.field)}: remove it, or set unit = "transcript"'
            )


def _dimension_problems(dimension: Dimension) -> Iterator[str]:
    """Yield what is wrong with one dimension."""
    where = f"dimension {show(dimension.name)}"
    if not _NAME.fullmatch(dimension.name):
        yield f"{where}: name must be small letters, digits and _, got {show(dimension.name)}: rename it"
    if not dimension.question.strip():
        yield f"{where}: question must not be empty, got '': write it"
    if (STATEMENT in dimension.question) != bool(dimension.field):
        yield (
            f"{where}: question must hold {STATEMENT} where the dimension has a field, and only there, "
            f"got field = {show(dimension.field)}: add or remove one of them"
        )
    for answer, anchor in dimension.anchors.items():
        if not anchor.strip():
            yield f"{where}: anchor of {show(answer)} must not be empty, got '': say when it is the answer"
    yield from _scale_problems(where, [answer for answer in dimension.anchors if answer != "na"])
    texts = [" ".join(anchor.split()).casefold() for anchor in dimension.anchors.values()]
    if len(set(texts)) < len(texts):
        yield f"{where}: anchors must differ from each other, got one twice: say what tells the answers apart"


def _scale_problems(where: str, answers: list[str]) -> Iterator[str]:
    """Yield what is wrong with a scale: its points must be whole numbers in order, or yes and no."""
    if set(answers) == {YES, NO}:
        return
    shown = ", ".join(answers) or "none"
    if not all(_POINT.fullmatch(answer) and str(int(answer)) == answer for answer in answers):
        yield f"{where}: anchors must be whole numbers, or yes and no, got {show(shown)}: correct the keys"
        return
    points = [int(answer) for answer in answers]
    if not 2 <= len(points) <= MAX_POINTS:
        yield f"{where}: a scale must have 2..{MAX_POINTS} points, got {len(points)}: add or remove some"
    if points != sorted(points):
        yield f"{where}: points must stand in order, got {show(shown)}: sort them"
