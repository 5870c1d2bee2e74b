"""Judgings side by side: cases paired, better by the end that is wished for, Holm over all, the rest said."""

import random
from pathlib import Path

import msgspec
import pytest

from engine.errors import InputError
from engine.rundir import RunDirectory
from eval.judging.comparison import HEADS, compare, compare_judgings
from eval.judging.results import Judging, place_of, read_judging
from eval.rubric import load_rubric
from eval.statistics.differences import mcnemar
from eval.statistics.intervals import paired_share_interval
from tests.eval.judging.runs import RUBRIC, Options, keep_judging, write_rubric


def votes(warmth: str, harm: str = "", repeats: int = 1) -> dict[str, dict[str, Options]]:
    """One transcript a character: a point of warmth, y or n of harm; - is missing, x not applicable."""
    harm = harm or "n" * len(warmth)
    return {
        f"c{n // repeats}.{n % repeats}": {
            "warmth": {"-": None, "x": "not applicable"}.get(one, one),
            "harm": {"y": "yes", "n": "no"}.get(other),
        }
        for n, (one, other) in enumerate(zip(warmth, harm, strict=True))
    }


def make(tmp_path: Path, name: str, given: dict[str, dict[str, Options]], **more: str) -> RunDirectory:
    return keep_judging(tmp_path / name, given, rubric=str(write_rubric(tmp_path)), **more)


def read(tmp_path: Path, name: str, warmth: str, harm: str = "", repeats: int = 1, **more: str) -> Judging:
    return read_judging(make(tmp_path, name, votes(warmth, harm, repeats), **more))


def test_the_figures_by_hand(tmp_path: Path) -> None:
    first = read(tmp_path, "old", "2" * 10 + "3" * 2, "y" * 9 + "n" * 3)
    second = read(tmp_path, "new", "3" * 10 + "3" * 2, "n" * 12)
    (found,) = compare([first, second]).against_first
    warmth, harm = found.dimensions
    assert (found.num_cases, found.num_transcripts, found.num_only_first, found.num_only_second) == (12, 12, 0, 0)
    assert warmth.first.mean == pytest.approx(26 / 12) and warmth.second.mean == 3
    assert warmth.difference is not None and warmth.difference.value == pytest.approx(10 / 12)
    assert (warmth.difference.num_better, warmth.difference.test) == (10, "permutation of signs")
    # All ten that differ go one way: 2 of 2**10 ways of their signs.
    assert warmth.difference.p == pytest.approx(2 / 2**10)
    assert harm.difference is not None and harm.difference.value == -0.75
    assert harm.difference.p == pytest.approx(mcnemar(0, 9)) == pytest.approx(2 / 2**9)
    assert harm.difference.interval == paired_share_interval(0, 9, 12)
    # Holm: the smallest of two p counts twice.
    assert (warmth.holm_p, harm.holm_p) == (pytest.approx(4 / 2**10), pytest.approx(2 / 2**9))
    # Harm is better low: fewer yes is better, though the figure falls.
    assert (warmth.outcome, harm.outcome) == ("better", "better")


def test_the_other_way_round_is_worse(tmp_path: Path) -> None:
    first = read(tmp_path, "old", "2" * 12, "y" * 12)
    second = read(tmp_path, "new", "4" * 12, "n" * 12)
    assert [one.outcome for one in compare([second, first]).against_first[0].dimensions] == ["worse", "worse"]


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    first = read(tmp_path, "old", "2323", "nnnn")
    second = read(tmp_path, "new", "3333", "nnnn")
    third = read(tmp_path, "blank", "----", "nnnn")
    found = compare([first, second, third]).against_first
    assert [one.outcome for one in found[0].dimensions] == ["not shown", "no difference"]
    warmth = found[1].dimensions[0]
    assert (warmth.outcome, warmth.difference, warmth.holm_p) == ("no pair", None, None)
    assert (warmth.second.mean, warmth.second.num_missing, warmth.second.num_scored) == (None, 4, 0)


def test_p_is_corrected_over_all_judgings_at_once(tmp_path: Path) -> None:
    first, second = read(tmp_path, "old", "2" * 6), read(tmp_path, "new", "3" * 6)
    alone = compare([first, second]).against_first[0].dimensions[0]
    assert alone.difference is not None and alone.difference.p == pytest.approx(2 / 2**6)
    assert alone.holm_p == pytest.approx(4 / 2**6)
    many = compare([first, second, second, second]).against_first
    assert [one.dimensions[0].holm_p for one in many] == pytest.approx([12 / 2**6] * 3)


def test_a_case_counts_once_however_often_it_was_played(tmp_path: Path) -> None:
    first = read(tmp_path, "old", "12" * 6, repeats=2)
    second = read(tmp_path, "new", "23" * 6, repeats=2)
    (found,) = compare([first, second]).against_first
    warmth = found.dimensions[0].difference
    assert (found.num_cases, found.num_transcripts) == (6, 12)
    assert warmth is not None and (warmth.num_first, warmth.first, warmth.second) == (6, 1.5, 2.5)


def test_transcripts_pair_by_id_where_they_can_and_else_by_case(tmp_path: Path) -> None:
    first = make(tmp_path, "a", {"c.0": {"warmth": "1"}, "c.1": {"warmth": "5"}, "d.0": {"warmth": "2"}})
    second = make(
        tmp_path,
        "b",
        {"c.1": {"warmth": "4"}, "d.1": {"warmth": "3"}, "d.2": {"warmth": "5"}, "e.0": {"warmth": "1"}},
    )
    (found,) = compare([read_judging(first), read_judging(second)]).against_first
    assert (found.num_cases, found.num_transcripts, found.num_only_first, found.num_only_second) == (2, 1, 2, 3)
    warmth = found.dimensions[0].difference
    # c by its transcript 1: 5 and 4; d by its means: 2 and 4.
    assert warmth is not None and (warmth.first, warmth.second, warmth.num_first) == (3.5, 4.0, 2)


def test_several_verdicts_on_one_transcript_are_averaged_first(tmp_path: Path) -> None:
    turns = {"c.0": {"harm/turn/1": "yes", "harm/turn/2": "no"}, "d.0": {"harm/turn/1": "no", "harm/turn/3": None}}
    first = read_judging(make(tmp_path, "a", turns))
    second = read_judging(make(tmp_path, "b", {"c.0": {"harm/turn/1": "no"}, "d.0": {"harm/turn/1": "no"}}))
    harm = compare([first, second]).against_first[0].dimensions[1]
    assert harm.difference is not None
    assert (harm.difference.first, harm.difference.second, harm.difference.num_first) == (0.25, 0.0, 2)
    assert (harm.first.num_scored, harm.first.num_missing, harm.first.mean) == (3, 1, pytest.approx(1 / 3))


def test_the_order_of_transcripts_does_not_matter(tmp_path: Path) -> None:
    first, second = read(tmp_path, "old", "2324152431"), read(tmp_path, "new", "3325542425")
    mixed = list(second.judged)
    random.Random(1).shuffle(mixed)
    assert compare([first, second]) == compare([first, msgspec.structs.replace(second, judged=tuple(mixed))])


def test_the_report(tmp_path: Path) -> None:
    runs = [
        make(tmp_path, "old", votes("2" * 10 + "-x", "y" * 12), pipeline="single", model="small"),
        make(tmp_path, "new", votes("4" * 11, "y" * 11), pipeline="dual", model="big"),
    ]
    report = compare_judgings(runs, ["A", "B\x1b[31m"])
    (section,) = report.sections
    assert section.title == "A against B\x1b[31m: 11 cases, 11 transcripts in both"
    warmth = dict(zip(HEADS, section.rows[0], strict=True))
    assert (warmth["dimension"], warmth["better"], warmth["cases"]) == ("warmth", "high", "10")
    assert (warmth["first"], warmth["second"], warmth["difference"]) == ("2.00", "4.00", "+2.00 (+2.00 to +2.00)")
    assert warmth["verdict"] == "B\x1b[31m is better than A"
    assert warmth["no score"] == "missing 1, 0; not applicable 1, 0"
    harm = dict(zip(HEADS, section.rows[1], strict=True))
    assert (harm["first"], harm["verdict"]) == ("100.0 %", "no difference: both score the same on every case")
    assert section.note == (
        "Transcripts only in A: 1. Pipelines differ (single, dual): a difference may be theirs. "
        "Judges differ (small; big): a difference may be theirs."
    )
    figures = report.figures["judgings"]
    assert figures["against_first"][0]["dimensions"][0]["outcome"] == "better"
    assert msgspec.json.decode(msgspec.json.encode(figures))["judgings"] == ["A", "B\x1b[31m"]


def test_a_comparison_is_seeded(tmp_path: Path) -> None:
    judgings = [read(tmp_path, "old", "2324152431"), read(tmp_path, "new", "3325542425")]
    assert compare(judgings, seed=4) == compare(judgings, seed=4)
    assert compare(judgings, seed=4) != compare(judgings, seed=5)


def test_failed_transcripts_are_said(tmp_path: Path) -> None:
    rubric = str(write_rubric(tmp_path))
    first = keep_judging(tmp_path / "a", votes("12"), rubric=rubric, failed=("z.0", "z.1"))
    second = keep_judging(tmp_path / "b", votes("12"), rubric=rubric)
    assert "Failed in a: 2 no_turns." in compare_judgings([first, second], ["a", "b"]).sections[0].note


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = make(tmp_path, "one", votes("12"))
    with pytest.raises(InputError, match="must be two or more, got 1"):
        compare_judgings([one], ["one"])
    other = keep_judging(tmp_path / "other", {"c0.0": {"is_human": "yes"}})
    with pytest.raises(InputError, match=r"by one rubric, got one: talks \([0-9a-f]{10}\), other: human_or_ai"):
        compare_judgings([one, other], ["one", "other"])
    empty = make(tmp_path, "empty", {})
    with pytest.raises(InputError, match="at least one transcript, got none: finish it first"):
        compare_judgings([one, empty], ["one", "empty"])
    run = RunDirectory.create(tmp_path / "talk", {"config.toml": b'[protocol]\nname = "counseling"\n'})
    with pytest.raises(InputError, match="must be a judging, got a run of protocol 'counseling'"):
        compare_judgings([one, run], ["one", "talk"])


def test_a_rubric_that_has_changed_is_refused(tmp_path: Path) -> None:
    judged = make(tmp_path, "one", votes("12"))
    load_rubric.cache_clear()
    write_rubric(tmp_path, RUBRIC.replace("very warm", "warmest"))
    with pytest.raises(InputError, match="its rubric must be as it was, got another"):
        read_judging(judged)


@pytest.mark.parametrize(
    ("transcript", "place"),
    [
        ("mia.0", ("mia", "0")),
        ("mia.v2.11", ("mia.v2", "11")),
        ("mia.1.t2", ("mia", "1")),
        ("mia", ("mia", "")),
        ("a\nb.3", ("a\nb", "3")),
    ],
)
def test_a_transcript_names_its_case_and_repeat(transcript: str, place: tuple[str, str]) -> None:
    assert place_of(transcript) == place
