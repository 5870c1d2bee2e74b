import re
from pathlib import Path
from typing import Any

import pytest

from engine.cases.schema import KNOWN_KEYS
from engine.errors import InputError
from eval.rubric import NOT_APPLICABLE, load_rubric, read_rubric, shipped_rubrics

SCALE = {"1": "bad", "2": "middling", "3": "good"}


def make_table(**changes: Any) -> dict[str, Any]:
    table: dict[str, Any] = {
        "name": "warmth",
        "title": "warmth",
        "instructions": "Judge the tone.",
        "dimensions": [make_dimension()],
    }
    return {**table, **changes}


def make_dimension(**changes: Any) -> dict[str, Any]:
    return {"name": "tone", "question": "How warm is it?", "anchors": SCALE, **changes}


def problems_of(table: dict[str, Any]) -> list[str]:
    rubric, problems = read_rubric(table)
    assert (rubric is None) == bool(problems)
    return problems


def test_a_rubric_is_read_with_its_scales() -> None:
    yes_no = make_dimension(name="kind", anchors={"na": "nobody spoke", "yes": "it is", "no": "it is not"})
    rubric, problems = read_rubric(make_table(dimensions=[make_dimension(), yes_no]))
    assert rubric is not None and not problems
    scale, binary = rubric.dimensions
    assert scale.schema.options == ("1", "2", "3") and not scale.is_binary
    assert binary.schema.options == ("yes", "no", NOT_APPLICABLE) and binary.is_binary
    assert rubric.unit == "transcript" and rubric.case_fields == ()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Warm th"}, "name must be small letters"),
        ({"title": " "}, "title must not be empty"),
        ({"dimensions": []}, "dimensions must be 1..50 tables, got 0"),
        ({"dimensions": [make_dimension()] * 2}, "names of their own, got 'tone' twice"),
        ({"unit": "role"}, "role must be named"),
        ({"role": "patient"}, "role must be left out"),
        ({"unit": "word"}, "unit: "),
        ({"dimension": []}, "did you mean dimensions?"),
    ],
)
def test_a_bad_rubric_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems_of(make_table(**changes)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"question": ""}, "question must not be empty"),
        ({"question": 3}, "dimensions[0].question: expected `str`, got `int`, got 3"),
        ({"anchors": {"1": "bad"}}, "2..11 points, got 1"),
        ({"anchors": {"2": "good", "1": "bad"}}, "points must stand in order, got '2, 1'"),
        ({"anchors": {"1": "bad", "yes": "good"}}, "whole numbers, or yes and no"),
        ({"anchors": {"01": "bad", "2": "good"}}, "whole numbers, or yes and no"),
        ({"anchors": {"yes": "good"}}, "whole numbers, or yes and no"),
        ({"anchors": {}}, "2..11 points, got 0"),
        ({"anchors": {"1": "So so.", "2": "so  so."}}, "anchors must differ"),
        ({"anchors": {"1": "", "2": "good"}}, "anchor of '1' must not be empty"),
        ({"field": "history"}, "question must hold {statement}"),
        ({"question": "Does it fit {statement}?"}, "question must hold {statement}"),
        ({"field": "history", "question": "Is {statement} borne out?"}, "field must be one of case_fields"),
        ({"better": "up"}, "dimensions[0].better"),
        ({"anchor": SCALE}, "did you mean dimensions[0].anchors?"),
    ],
)
def test_a_bad_dimension_is_refused(changes: dict[str, Any], problem: str) -> None:
    assert any(problem in found for found in problems_of(make_table(dimensions=[make_dimension(**changes)])))


def test_statements_are_not_asked_about_turn_by_turn() -> None:
    dimension = make_dimension(field="history", question="Is {statement} borne out?")
    table = make_table(dimensions=[dimension], case_fields=["history"])
    assert problems_of(table) == []
    assert "field must be left out" in problems_of({**table, "unit": "turn"})[0]


def test_all_problems_come_at_once_and_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'name = "own"\ntitle = ""\ninstructions = "x"\n'
        '[[dimensions]]\nname = "A"\nquestion = ""\n[dimensions.anchors]\n1 = "x"\n',
        "utf-8",
    )
    with pytest.raises(InputError) as refused:
        load_rubric(str(path))
    assert len(refused.value.problems) == 4
    assert all(problem.startswith("own.toml: ") and "got" in problem for problem in refused.value.problems)


def test_a_name_that_is_none_gets_the_nearest_one() -> None:
    with pytest.raises(InputError, match=re.escape("did you mean 'faithfulness'?")):
        load_rubric("faithfullness")


@pytest.mark.parametrize("data", [b"name = ", b"\xff\xfe", b""])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"own\.toml"):
        load_rubric(str(path))


def test_a_file_of_ones_own_is_read_like_a_shipped_one(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_bytes(shipped_rubrics()["safety"].read_bytes())
    assert load_rubric(str(path)) == load_rubric("safety")
    with pytest.raises(InputError, match="another ending"):
        load_rubric(__file__)


@pytest.mark.parametrize("name", shipped_rubrics())
def test_shipped_rubrics_are_whole_and_plain(name: str) -> None:
    rubric = load_rubric(name)
    assert rubric.name == name and len(rubric.fingerprint) == 64
    assert set(rubric.case_fields) <= set(KNOWN_KEYS)
    text = shipped_rubrics()[name].read_text("utf-8")
    assert text.isascii() and not re.search(r"[^\S\n]{2,}\S", text.replace("    ", ""))
    for dimension in rubric.dimensions:
        assert dimension.question.endswith("?")
        assert all(len(anchor) >= 20 or dimension.name == "boundaries" for _, anchor in dimension.options)


def test_the_rubrics_asked_for_are_shipped() -> None:
    assert {"counselling", "faithfulness", "safety", "human_or_ai"} <= set(shipped_rubrics())
