"""Files of people's ratings: what is read, what is refused with file and line, what spreadsheets do to a CSV."""

from pathlib import Path

import pytest

from engine.errors import InputError
from eval.judging.ratings import Rater, Scale, judge_of, read_people
from eval.judging.results import read_judging
from eval.rubric import Rubric, load_rubric
from tests.eval.judging.runs import keep_judging, write_rubric

HEAD = "transcript,dimension,rater,score"
KNOWN = frozenset({"mia.0", "mia.1", "tom.0"})


@pytest.fixture
def rubric(tmp_path: Path) -> Rubric:
    return load_rubric(str(write_rubric(tmp_path)))


def write(path: Path, *rows: str, head: str = HEAD) -> Path:
    path.write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return path


def refused(*paths: Path, rubric: Rubric | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        read_people(paths, rubric, KNOWN)
    return list(caught.value.problems)


def given(rater: Rater, dimension: str) -> dict[str, object]:
    return dict(rater.ratings[dimension].by_transcript)


def test_what_a_spreadsheet_saves_is_read(tmp_path: Path, rubric: Rubric) -> None:
    file = tmp_path / "people.csv"
    rows = (
        "",
        "Rater,Score,Transcript,Dimension",
        '"Doe, Jo",4.0,mia.0,Warmth',
        "",
        ",,,",
        '"Doe, Jo", NO ,mia.0,harm',
    )
    file.write_bytes(
        b"\xef\xbb\xbf" + "\r\n".join([*rows, "Al,Not  Applicable,tom.0,warmth", "Al,,mia.1,warmth"]).encode()
    )
    people, scales = read_people([file], rubric, KNOWN)
    assert [person.name for person in people] == ["Al", "Doe, Jo"]
    assert (given(people[1], "warmth"), given(people[1], "harm")) == ({"mia.0": 4.0}, {"mia.0": 0.0})
    al = people[0].ratings["warmth"]
    assert (dict(al.by_transcript), al.num_not_applicable) == ({"tom.0": None, "mia.1": None}, 1)
    assert list(scales) == ["warmth", "harm"]
    assert scales["harm"] == Scale((0.0, 1.0), is_ordered=False)


def test_every_fault_is_told_at_once(tmp_path: Path, rubric: Rubric) -> None:
    file = write(
        tmp_path / "people.csv",
        "mia.0,warmth,Jo,6",
        "mia.0,warmt,Jo,3",
        "mia.9,harm,Jo,yes",
        "mia.1,harm,Jo,perhaps",
        "mia.0,harm,Jo,na",
        ",harm,,yes",
        "tom.0,warmth,Jo,2",
        "tom.0,warmth,Jo,2",
        "mia.9,warmth,Jo,2",
        "mia.9,warmth,Al,2",
    )
    advice = "correct it, or leave it blank where it is missing"
    assert refused(file, rubric=rubric) == [
        f"{file}: line 2: score of warmth must be one of 1, 2, 3, 4, 5, not applicable, got 6: {advice}",
        f"{file}: line 3: dimension must be one of rubric talks, got 'warmt': did you mean 'warmth'?",
        f"{file}: line 4 and 2 more: transcript must be one that was judged, got 'mia.9': "
        "name an episode of the judged run, such as 'mia.0'",
        f"{file}: line 5: score of harm must be one of yes, no, got 'perhaps': {advice}",
        f"{file}: line 6: score of harm must be one of yes, no, got 'na': {advice}",
        f"{file}: line 7: transcript must be named, got '': fill it in",
        f"{file}: line 7: rater must be named, got '': fill it in",
        f"{file}: line 9: a transcript must be rated once, but 'Jo' has rated 'tom.0', warmth at {file}: line 8 "
        "already: remove one of the rows",
    ]


def test_one_person_in_two_files_rates_a_transcript_once(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "mia.0,warmth,Jo,3")
    second = write(tmp_path / "b.csv", "mia.0,warmth,Jo,", "tom.0,warmth,Jo,2")
    (problem,) = refused(first, second)
    assert problem.startswith(f"{second}: line 2: ") and f"at {first}: line 2 already" in problem


@pytest.mark.parametrize(
    "head",
    ["transcript,dimension,rater", f"{HEAD},mood", "transcript;dimension;rater;score", HEAD.replace("rater", "who")],
)
def test_other_columns_are_refused(tmp_path: Path, head: str) -> None:
    cells = ",".join("x" for _ in head.split(","))
    (problem,) = refused(write(tmp_path / "people.csv", cells, head=head))
    assert "columns must be transcript, dimension, rater, score, got " in problem


def test_files_that_are_no_ratings_are_refused(tmp_path: Path) -> None:
    twice = write(tmp_path / "twice.csv", "a,b,c,1,2", head=f"{HEAD},score")
    short = write(tmp_path / "short.csv", "mia.0,warmth,Jo")
    quotes = write(tmp_path / "quotes.csv", 'mia.0,warmth,"Jo,3')
    latin = tmp_path / "latin.csv"
    latin.write_bytes(HEAD.encode() + b"\nmia.0,warmth,J\xf6,3\n")
    empty = write(tmp_path / "empty.csv")
    found = refused(twice, short, quotes, latin, empty, tmp_path / "gone.csv")
    assert "must name each column once, got 'score' 2 times" in found[0]
    assert "short.csv: line 2: must have 4 fields" in found[1]
    assert "quotes.csv: line 2: must be a CSV row" in found[2]
    assert "latin.csv: line 2: must be UTF-8, got byte 0xf6" in found[3]
    assert "empty.csv: must hold at least one record" in found[4]
    assert "gone.csv', which is not there" in found[5]
    assert len(found) == 6


def test_without_a_rubric_the_scale_is_what_is_found(tmp_path: Path) -> None:
    file = write(
        tmp_path / "p.csv", "x,warmth,Jo,3", "y,warmth,Jo,1", "z,warmth,Jo,7", "x,mood,Jo,Sad", "y,mood,Jo,glad"
    )
    _, scales = read_people([file], None, frozenset())
    assert scales["warmth"] == Scale((1.0, 3.0, 7.0), is_ordered=True)
    assert scales["mood"] == Scale(("glad", "sad"), is_ordered=False)
    (problem,) = refused(write(file, "x,warmth,Jo,3", "y,warmth,Jo,n/a", "z,warmth,Jo,"))
    assert "line 3: scores of warmth must be all numbers or all words, got 'n/a' beside 3" in problem


@pytest.mark.parametrize("score", ["nan", "inf", "1e3", "1_0", "٣", "0x1", "3,5"])
def test_only_plain_numbers_are_numbers(tmp_path: Path, rubric: Rubric, score: str) -> None:
    (problem,) = refused(write(tmp_path / "p.csv", f'mia.0,warmth,Jo,"{score}"'), rubric=rubric)
    assert "score of warmth must be one of" in problem


def test_hostile_names_are_clean(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    name = '"Jo\x1b]0;owned\x07\u202e\nBo"'
    file.write_text(f"{HEAD}\nx,wa\x1b[31mrmth,{name},1\ny,warmth,\u202e,2\n", "utf-8", newline="")
    (problem,) = refused(file)
    assert problem.endswith("line 4: rater must be a name that can be read, got '\\u202e': rename")
    people, scales = read_people([write(file, f"x,wa\x1b[31mrmth,{name},g\x1b[2Jood")], None, frozenset())
    assert (people[0].name, list(scales), scales["warmth"].points) == ("Jo Bo", ["warmth"], ("good",))


def test_a_judging_is_a_rater(tmp_path: Path) -> None:
    votes = {"mia.0": {"warmth": "4", "harm": "yes"}, "tom.0": {"warmth": "not applicable", "harm": None}}
    judge = judge_of(read_judging(keep_judging(tmp_path / "j", votes, rubric=str(write_rubric(tmp_path)))))
    assert (judge.name, judge.is_person) == ("j", False)
    assert (given(judge, "warmth"), given(judge, "harm")) == (
        {"mia.0": 4.0, "tom.0": None},
        {"mia.0": 1.0, "tom.0": None},
    )
    assert judge.ratings["warmth"].num_not_applicable == 1
    assert dict(judge.ratings["warmth"].by_question) == {"mia.0/warmth": 4.0, "tom.0/warmth": None}
