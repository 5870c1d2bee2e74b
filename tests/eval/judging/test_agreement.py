"""Agreement of judges and people: published examples through files, consensus by hand, what holds in any order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from engine.protocol import Report
from eval.judging.agreement import HEADS, MAX_EACH, agree, consensus, report
from eval.judging.ratings import Rater, Ratings, Scale
from eval.statistics.agreement import Rating
from tests.eval.judging.runs import Options, keep_judging, write_rubric

HEAD = "transcript,dimension,rater,score"
FIVE = Scale((1.0, 2.0, 3.0, 4.0, 5.0), is_ordered=True)
WORDS = Scale(("maybe", "no", "yes"), is_ordered=False)
# Six targets by four judges, Shrout and Fleiss 1979, table 2.
SHROUT = ((9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7))


def write_people(path: Path, ratings: Mapping[str, Mapping[str, object]], dimension: str = "warmth") -> Path:
    """Write people's ratings, by rater and transcript."""
    rows = [
        f"{transcript},{dimension},{rater},{score}"
        for rater, own in ratings.items()
        for transcript, score in own.items()
    ]
    path.write_text("\n".join([HEAD, *rows]) + "\n", "utf-8")
    return path


def figures(found: Report, dimension: str = "warmth") -> dict[tuple[str, str], Any]:
    """Return the measures of a dimension by (between, statistic)."""
    (own,) = [one for one in found.figures["agreement"]["dimensions"] if one["dimension"] == dimension]
    return {(side["between"], measure["statistic"]): measure for side in own["sides"] for measure in side["measures"]}


def value(found: Report, between: str, statistic: str, dimension: str = "warmth") -> Any:
    return figures(found, dimension)[between, statistic]["value"]


def reasons(found: Report, dimension: str = "warmth") -> dict[str, str]:
    (own,) = [one for one in found.figures["agreement"]["dimensions"] if one["dimension"] == dimension]
    return {side["between"]: side["reason"] for side in own["sides"]}


def make_rater(name: str, ratings: Sequence[Rating | None], *, is_person: bool = True) -> Rater:
    own = {f"c{n}.0": rating for n, rating in enumerate(ratings)}
    return Rater(name=name, is_person=is_person, ratings={"warmth": Ratings(by_transcript=own, by_question=own)})


def test_two_people_as_in_the_textbook(tmp_path: Path) -> None:
    # Fifty grant proposals: 20 both accept, 5 only the first, 10 only the second, 15 neither; kappa 0.4.
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    ratings = {rater: {f"p{n}.0": pair[at] for n, pair in enumerate(pairs)} for at, rater in enumerate("AB")}
    found = report([], [], [write_people(tmp_path / "people.csv", ratings, "accept")])
    assert value(found, "A and B", "percent agreement", "accept") == pytest.approx(0.7)
    kappa = figures(found, "accept")["A and B", "Cohen's kappa"]
    assert kappa["value"] == pytest.approx(0.4)
    assert kappa["interval"]["low"] < 0.4 < kappa["interval"]["high"]
    assert (kappa["num_subjects"], kappa["num_dropped"]) == (50, 0)


def test_four_people_as_published(tmp_path: Path) -> None:
    ratings = {f"judge{at}": {f"t{n}.0": row[at] for n, row in enumerate(SHROUT)} for at in range(4)}
    found = report([], [], [write_people(tmp_path / "people.csv", ratings)])
    for statistic, published in (("ICC(2,1)", 0.29), ("ICC(3,1)", 0.71), ("ICC(2,k)", 0.62), ("ICC(3,k)", 0.91)):
        assert value(found, "4 people", statistic) == pytest.approx(published, abs=0.006)
    # Each against the mean of the other three, which lies between the points: no kappa is told of that.
    assert ("judge0 and other people", "ICC(3,1)") in figures(found)
    assert not [key for key in figures(found) if "other people" in key[0] and "kappa" in key[1]]


def judged(warmth: str, harm: str) -> dict[str, dict[str, Options]]:
    return {
        f"c{n}.0": {"warmth": one if one != "x" else "not applicable", "harm": "yes" if other == "y" else "no"}
        for n, (one, other) in enumerate(zip(warmth, harm, strict=True))
    }


def test_judges_and_people_side_by_side(tmp_path: Path) -> None:
    rubric = str(write_rubric(tmp_path))
    runs = [
        keep_judging(tmp_path / "a", judged("1234x", "yynnn"), rubric=rubric),
        keep_judging(tmp_path / "b", judged("12445", "yynny"), rubric=rubric),
    ]
    people = tmp_path / "people.csv"
    rows = {"ann": ("12345", "yynny"), "bo": ("34345", "ynnny")}
    said_as = {"y": "yes", "n": "no"}
    lines = [
        f"c{n}.0,{dimension},{rater},{said_as.get(score, score)}"
        for rater, scores in rows.items()
        for dimension, said in zip(("warmth", "harm"), scores, strict=True)
        for n, score in enumerate(said)
    ]
    people.write_text("\n".join([HEAD, *lines]), "utf-8")
    found = report(runs, ["a", "b"], [people])
    # Judges on the four that both scored: 1234 and 1244.
    assert value(found, "a and b", "mean absolute error") == pytest.approx(0.25)
    assert figures(found)["a and b", "percent agreement"]["num_dropped"] == 1
    # Against the people's means 2, 3, 3, 4, 5: a is 1, 1, 0, 0 away; b 1, 1, 1, 0, 0.
    assert value(found, "a and people", "mean absolute error") == pytest.approx(0.5)
    assert value(found, "b and people", "mean absolute error") == pytest.approx(0.6)
    assert value(found, "ann and bo", "mean absolute error") == pytest.approx(0.8)
    # Harm: the second is a tie among people, and left out; b and the rest agree, a says no to the last.
    assert value(found, "b and people", "percent agreement", "harm") == 1.0
    harm = figures(found, "harm")["a and people", "percent agreement"]
    assert (harm["value"], harm["num_subjects"], harm["num_dropped"]) == (0.75, 4, 1)
    assert value(found, "ann and bo", "percent agreement", "harm") == pytest.approx(0.8)
    rated = {one["rater"]: one for one in found.figures["agreement"]["dimensions"][0]["raters"]}
    assert (rated["a"]["num_rated"], rated["a"]["num_not_applicable"], rated["a"]["num_missing"]) == (4, 1, 0)
    title, warmth, harm_section = found.sections
    assert title.title == "Agreement by rubric talks: 2 judges, 2 people"
    assert title.rows[0] == ("a", "judge", "9", "1", "0")
    assert (warmth.title, harm_section.title) == ("warmth (1, 2, 3, 4, 5)", "harm (no, yes)")
    assert {len(row) for row in warmth.rows} == {len(HEADS)}


def test_single_votes_are_raters(tmp_path: Path) -> None:
    votes: dict[str, dict[str, Options]] = {
        "c0.0": {"harm": ("yes", "yes", "yes"), "warmth": ("1", "2", "1")},
        "c1.0": {"harm": ("no", "no", "yes"), "warmth": ("5", "4", "not applicable")},
        "c2.0": {"harm": ("no", "no", None), "warmth": ("3", "3", "3")},
    }
    rubric = str(write_rubric(tmp_path))
    panel = keep_judging(
        tmp_path / "p", votes, rubric=rubric, pipeline="panel", roles=("judge_1", "judge_2", "judge_3")
    )
    found = report([panel], ["p"], by_vote=True)
    # Fleiss over the two that all three voted on, yyy and nny: observed 2/3, by chance (4/6)**2 + (2/6)**2 = 5/9.
    assert value(found, "3 judges", "Fleiss's kappa", "harm") == pytest.approx((2 / 3 - 5 / 9) / (1 - 5 / 9))
    assert figures(found, "harm")["3 judges", "Fleiss's kappa"]["num_dropped"] == 1
    assert [row[0] for row in found.sections[0].rows] == ["p judge_1", "p judge_2", "p judge_3"]
    assert found.sections[0].rows[2] == ("p judge_3", "judge", "4", "1", "1")
    dual = keep_judging(
        tmp_path / "d", {name: {"harm": ("yes", "no")} for name in votes}, rubric=rubric, pipeline="dual"
    )
    seen = report([dual], ["d"], dimension="harm", by_vote=True)
    assert [row[0] for row in seen.sections[0].rows] == ["d vote 1", "d vote 2"]
    assert "second vote has seen the first" in seen.sections[-1].note


def test_judges_are_measured_by_question_and_against_people_by_transcript(tmp_path: Path) -> None:
    rubric = str(write_rubric(tmp_path))
    turns = {"c0.0": {"harm/turn/1": "yes", "harm/turn/2": "no"}, "c1.0": {"harm/turn/1": "no", "harm/turn/2": "no"}}
    other = {"c0.0": {"harm/turn/1": "yes", "harm/turn/2": "no"}, "c1.0": {"harm/turn/1": "no", "harm/turn/2": "yes"}}
    runs = [keep_judging(tmp_path / name, votes, rubric=rubric) for name, votes in (("a", turns), ("b", other))]
    people = write_people(tmp_path / "people.csv", {"ann": {"c0.0": "yes", "c1.0": "no"}}, "harm")
    found = report(runs, ["a", "b"], [people])
    assert value(found, "a and b", "percent agreement", "harm") == 0.75
    assert figures(found, "harm")["a and b", "percent agreement"]["num_subjects"] == 4
    # Shares of yes, 1/2 and 0, against 1 and 0: between the points, so numbers.
    assert value(found, "a and ann", "mean absolute error", "harm") == 0.25
    assert ("a and ann", "Cohen's kappa") not in figures(found, "harm")
    assert ("a and ann", "within 1") not in figures(found, "harm")


def test_where_there_is_no_figure_the_reason_is_said(tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    rows = [
        "a.0,warmth,ann,1",
        "b.0,warmth,bo,2",
        "a.0,harm,ann,yes",
        "a.0,pace,ann,1",
        "a.0,pace,bo,",
        "b.0,pace,bo,3",
    ]
    file.write_text("\n".join([HEAD, *rows]), "utf-8")
    found = report([], [], [file])
    assert reasons(found) == {"ann and bo": "needs 2 subjects or more that all have rated, got 0"}
    assert reasons(found, "harm") == {"1 people": "needs 2 raters or more, got 1"}
    assert found.sections[1].rows[0][:4] == ("all", "ann and bo", "-", "-")
    same = write_people(file, {"ann": {"a.0": 3, "b.0": 3}, "bo": {"a.0": 3, "b.0": 3}})
    kappa = figures(report([], [], [same]))["ann and bo", "Cohen's kappa"]
    assert (kappa["value"], kappa["reason"]) == (None, "every rating is the same")


def test_many_people_are_not_measured_one_by_one() -> None:
    people = [make_rater(f"p{n}", [1.0, 2.0, 3.0, 4.0]) for n in range(MAX_EACH + 1)]
    (found,) = agree(people, {"warmth": FIVE}, resamples=5)
    assert [side.between for side in found.sides] == [f"{MAX_EACH + 1} people"]


def test_consensus_by_hand() -> None:
    assert consensus([{"a": 1.0, "b": 2.0}, {"a": 4.0, "c": None}], FIVE) == {"a": 2.5, "b": 2.0, "c": None}
    said = [{"a": "yes", "b": "yes"}, {"a": "yes", "b": "no"}, {"a": "no", "b": None}]
    assert consensus(said, WORDS) == {"a": "yes", "b": None}
    assert consensus([{"a": "yes"}, {"a": "no"}, {"a": "maybe"}], WORDS) == {"a": None}


def test_numbers_of_any_size_have_no_kappa(tmp_path: Path) -> None:
    ratings = {"ann": {f"t{n}.0": n for n in range(13)}, "bo": {f"t{n}.0": n + 0.5 for n in range(13)}}
    found = report([], [], [write_people(tmp_path / "people.csv", ratings)])
    assert value(found, "ann and bo", "mean absolute error") == pytest.approx(0.5)
    assert value(found, "ann and bo", "Spearman's rho") == pytest.approx(1)
    assert not [name for _, name in figures(found) if "kappa" in name or name == "percent agreement"]
    assert found.sections[1].title == "warmth (numbers)"


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0, None]), min_size=5, max_size=5), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_order_of_raters_and_subjects_changes_nothing(ratings: list[list[float | None]], draw: Any) -> None:
    raters = [make_rater(f"r{n}", own, is_person=False) for n, own in enumerate(ratings)]
    places = list(range(5))
    draw.shuffle(places)
    turned = [make_rater(f"r{n}", [own[place] for place in places], is_person=False) for n, own in enumerate(ratings)]
    draw.shuffle(turned)
    first, second = (next(iter(agree(one, {"warmth": FIVE}, resamples=4))).sides[0] for one in (raters, turned))
    assert (first.num_subjects, first.num_dropped, first.reason) == (
        second.num_subjects,
        second.num_dropped,
        second.reason,
    )
    for one, other in zip(first.measures, second.measures, strict=True):
        assert one.statistic == other.statistic
        assert one.value == (None if other.value is None else pytest.approx(other.value, abs=1e-9))


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    rubric = str(write_rubric(tmp_path))
    one = keep_judging(tmp_path / "one", judged("12", "yn"), rubric=rubric)
    other = keep_judging(tmp_path / "other", {"c0.0": {"is_human": "yes"}})
    with pytest.raises(InputError, match=r"of 2 raters or more, got 1, one: .* or take the votes \(--votes\)"):
        report([one], ["one"])
    with pytest.raises(InputError, match="of 2 raters or more, got 1, one vote 1: add a judging"):
        report([one], ["one"], by_vote=True)
    with pytest.raises(InputError, match="by one rubric, got one: talks"):
        report([one, other], ["one", "other"])
    with pytest.raises(InputError, match="must be named once, got .*/one 2 times"):
        report([one, one], ["one", "one"])
    people = write_people(tmp_path / "people.csv", {"ann": {"c0.0": 1}})
    with pytest.raises(InputError, match="--dimension must be one of warmth, harm, got 'warm': did you mean 'warmth'?"):
        report([one], ["one"], [people], dimension="warm")
