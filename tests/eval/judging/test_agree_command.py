"""`sandplay agree` as a user runs it: tables, one JSON object, refusals; nothing hostile reaches the screen."""

from pathlib import Path

import pytest

from tests.eval.judging.runs import keep_judging, write_rubric
from tests.running import run, run_json

HEAD = "transcript,dimension,rater,score"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two judgings of one name, and a file of two people, one of them under a hostile name."""
    directory = tmp_path_factory.mktemp("agree")
    rubric = str(write_rubric(directory))
    for place, scores in (("one", "yyny"), ("two", "ynny")):
        (directory / place).mkdir()
        votes = {f"c{n}.0": {"harm": "yes" if score == "y" else "no"} for n, score in enumerate(scores)}
        keep_judging(directory / place / "judged", votes, rubric=rubric)
    rows = [f"c{n}.0,harm,Ann\x1b]0;owned\x07 [red]B,{score}" for n, score in enumerate(("yes", "yes", "no", "no"))]
    (directory / "people.CSV").write_text("\n".join([HEAD, *rows]), "utf-8")
    return directory


def test_judges_and_people_are_measured(sources: Path) -> None:
    judgings = (sources / "one" / "judged", sources / "two" / "judged")
    command = ("agree", *judgings, sources / "people.CSV", "--dimension", "harm")
    (harm,) = run_json(*command)["agreement"]["dimensions"]
    # Yes and no four times, three of them alike: kappa (3/4 - 1/2) / (1 - 1/2) against the person.
    measured = {side["between"].split(" and ")[-1]: side["measures"] for side in harm["sides"][1:2]}
    assert [one["value"] for one in measured["Ann [red]B"]] == [0.75, 0.5]
    said = run(*command)
    assert "one/judged" in said and "two/judged" in said and "Ann [red]B" in said
    assert "\x1b" not in said and "owned" not in said


def test_what_cannot_be_read_is_refused(sources: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(f"{HEAD}\nc9.0,harm,Al,yes\nc0.0,harm,Al,\x1b[31mmaybe\n", "utf-8")
    said = run("agree", sources / "one" / "judged", bad, expect=2)
    assert "bad.csv: line 2: transcript must be" in said and "bad.csv: line 3: score of harm must be" in said
    assert "\x1b" not in said
    assert "run directory" in run("agree", tmp_path / "nowhere", expect=2)


def test_two_judgings_are_compared(sources: Path) -> None:
    judgings = (sources / "one" / "judged", sources / "two" / "judged")
    (pair,) = run_json("compare", *judgings)["judgings"]["against_first"]
    harm = next(one for one in pair["dimensions"] if one["dimension"] == "harm")
    # Harm is said of three cases of four, then of two; one case changed.
    assert (harm["difference"]["first"], harm["difference"]["second"]) == (0.75, 0.5)
    assert (harm["better"], harm["outcome"]) == ("low", "not shown") and pair["num_cases"] == 4
    assert "no difference shown" in run("compare", *judgings)
    assert "--paper must be given with exams" in run("compare", *judgings, "--paper", expect=2)
