"""Tables as data: a column per corpus, rows that nobody has left out, differences marked."""

import msgspec

from eval.quality.figures import EmbeddingFigures
from eval.quality.measure import measure
from eval.quality.retried import difference
from eval.quality.tables import comparison, differences, grids
from tests.eval.quality.records import SPEC, TALK, make_record


def test_comparison() -> None:
    one = measure([make_record()], "one", SPEC).figures()
    embedding = EmbeddingFigures(distance=0.5, num_pairs=3, gain=None, num_compared=0)
    two = msgspec.structs.replace(measure([], "two", SPEC).figures(), embedding=embedding)
    grid = comparison([one, two])
    rows = {row[0]: row[1:] for row in grid.rows}
    assert grid.heads == ("figure", "one", "two")
    assert rows["episodes"] == ("1", "0") and rows["patient: turns"] == ("2", "-")
    assert rows["embedding distance"] == ("-", "0.5")
    assert "  gain over earlier" not in rows and "labels" not in rows
    assert all(len(row) == 3 for row in grid.rows)


def test_differences_mark_small_p() -> None:
    found = (difference("turns", [9.0] * 9, [1.0] * 9), difference("leaks", [1.0], [1.0]))
    grid = differences(msgspec.structs.replace(measure([], "one", SPEC).figures(), retried=found, num_retried=9))
    assert [row[0] for row in grid.rows] == ["turns", "leaks"]
    assert grid.rows[0][1:4] == ("9", "1", "+8") and grid.rows[0][4].endswith(" *")
    assert grid.rows[1][4] == "-"


def test_empty_tables_are_left_out() -> None:
    plain = measure([make_record()], "one", SPEC).figures()
    talk = (*TALK, ("therapist", "She works behind closed shutters and sends him?"))
    leaking = measure([make_record(talk=talk)], "two", SPEC)
    assert [grid.title for grid in grids([plain, leaking.figures()])] == ["Corpus quality", "two: leaks"]
