"""`docs/files.md` names every column and key of the formats it describes."""

import re

import msgspec
import pytest

from docs.configuration import ROOT
from engine.checkpoints import Checkpoint, Lineage
from engine.corpus_parts import Part
from engine.corpus_schema import _REPLY, _STEP, SCHEMA
from eval.exam.report import ExamScores, SetScore
from eval.judging.report import DimensionFigures, JudgingFigures
from eval.verdicts import Verdict, Vote
from training.round_log import Decided, Examined, Played, Sampled, Swapped, Trained
from training.sample_log import Mark

PAGE = (ROOT / "docs" / "files.md").read_text("utf-8")
NAMED = set(re.findall(r"`([a-z][a-z0-9_]*)`", PAGE))


def test_every_column_of_an_episode_is_named() -> None:
    columns = {*SCHEMA.names, *(field.name for field in _STEP), *(field.name for field in _REPLY)}
    assert len(SCHEMA.names) == 23
    assert columns - NAMED == set()


@pytest.mark.parametrize(
    "kind",
    [
        *(Part, Mark, Checkpoint, Lineage, Played, Sampled, Swapped, Trained, Examined, Decided),
        *(ExamScores, SetScore, JudgingFigures, DimensionFigures, Verdict, Vote),
    ],
)
def test_every_key_is_named(kind: type[msgspec.Struct]) -> None:
    assert {field.encode_name for field in msgspec.structs.fields(kind)} - NAMED == set()


def test_every_column_of_an_exams_items_is_named() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from eval.exam.report import _schema

    assert set(_schema(pyarrow).names) - NAMED == set()
