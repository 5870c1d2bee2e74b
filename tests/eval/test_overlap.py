"""Overlap: planted copies are found with their length and source, what is not copied is not, memory stays."""

import itertools
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InputError
from eval.overlap import OverlapCheck, find_overlap, words

MEDQA = Path(__file__).parents[3] / "shared" / "data" / "eval" / "medqa" / "psychosis.jsonl"
QUESTION = (
    "A baker of 41 has slept two hours a night for a week, speaks without pause, and has ordered nine ovens. "
    "Which of these should be started first?"
)
SHORT_QUESTION = "Which gland lies just above the kidney then?"
FEW = st.lists(st.sampled_from("abc"), max_size=14)


def find(text: str, question: str = QUESTION) -> tuple[int, int]:
    """Return the longest run and the words covered."""
    (item,) = find_overlap([("q", question)], [("t", text)]).items
    return item.longest, item.covered


def test_a_copy_is_found_whole_whatever_its_case_and_punctuation() -> None:
    size = len(words(QUESTION))
    assert find(QUESTION) == (size, size)
    assert find(f"So she said: {QUESTION.upper().replace(',', ' --')} And then?") == (size, size)


def test_thirteen_words_in_a_row_are_an_overlap_and_twelve_are_not() -> None:
    spoken = words(QUESTION)
    assert find("before " + " ".join(spoken[3:16]) + " after") == (13, 13)
    assert find("before " + " ".join(spoken[3:15]) + " after") == (0, 0)


def test_a_changed_word_splits_the_run() -> None:
    spoken = words(QUESTION)
    changed = [*spoken[:14], "otherwise", *spoken[15:]]
    assert len(spoken) == 28
    assert find(" ".join(changed)) == (14, 27)


def test_runs_with_other_words_between_are_not_joined() -> None:
    spoken = words(QUESTION)
    assert find(" ".join([*spoken[:13], "between", *spoken[1:14]])) == (13, 14)


def test_short_items_are_checked_by_eight_words_and_shorter_ones_not_at_all() -> None:
    assert find(SHORT_QUESTION.lower(), SHORT_QUESTION) == (8, 8)
    found = find_overlap([("a", "Is it so?"), ("b", SHORT_QUESTION)], [("t", "Is it so? It is.")])
    assert (found.num_too_short, [item.id for item in found.items]) == (1, ["b"])
    assert found.share == 0


def test_sources_are_counted_and_the_first_named() -> None:
    corpus = [(f"episode {n}", QUESTION if n % 2 else "nothing of it") for n in range(20)]
    found = find_overlap([("q", QUESTION), ("other", SHORT_QUESTION)], corpus)
    item = found.items[0]
    assert (item.num_sources, item.sources) == (10, tuple(f"episode {n}" for n in (1, 3, 5, 7, 9)))
    assert (found.num_texts, found.share, [one.id for one in found.overlapping]) == (20, 0.5, ["q"])


def test_one_text_is_one_source_however_often_it_repeats_the_item() -> None:
    (item,) = find_overlap([("q", QUESTION)], [("t", f"{QUESTION} {QUESTION}")]).items
    assert (item.num_sources, item.longest) == (1, len(words(QUESTION)))


def test_no_items_or_none_long_enough_have_no_share() -> None:
    assert find_overlap([], [("t", QUESTION)]).share is None
    assert find_overlap([("a", "")], []).share is None


def test_lengths_may_be_set() -> None:
    assert find_overlap([("q", QUESTION)], [("t", "slept two hours")], long=3, short=2).share == 1
    with pytest.raises(InputError, match="2 <= short <= long, got 8 and 5"):
        OverlapCheck([], long=5)
    with pytest.raises(InputError, match="'q' twice"):
        OverlapCheck([("q", "one"), ("q", "two")])


def test_words() -> None:
    assert words("Don’t-stop: the  patient's 5_mg!") == ["dont", "stop", "the", "patients", "5", "mg"]
    assert words("失眠 two 周") == ["失", "眠", "two", "周"]
    assert words("\ud800 ﬁne") == ["fine"]


def longest_common_run(first: list[str], second: list[str]) -> int:
    best = 0
    for i, j in itertools.product(range(len(first)), range(len(second))):
        run = 0
        while i + run < len(first) and j + run < len(second) and first[i + run] == second[j + run]:
            run += 1
        best = max(best, run)
    return best


@settings(max_examples=120, deadline=None)
@given(FEW, st.lists(FEW, max_size=3))
def test_the_longest_run_is_that_of_comparing_every_place(item: list[str], corpus: list[list[str]]) -> None:
    found = find_overlap(
        [("q", " ".join(item))], ((str(n), " ".join(text)) for n, text in enumerate(corpus)), long=4, short=2
    )
    if len(item) < 2:
        assert (found.num_too_short, found.items) == (1, ())
        return
    size = 4 if len(item) >= 4 else 2
    runs = [longest_common_run(item, text) for text in corpus]
    expected = max([run for run in runs if run >= size], default=0)
    (one,) = found.items
    assert (one.longest, one.num_sources) == (expected, sum(run >= size for run in runs))
    assert one.longest <= one.covered <= one.num_words == len(item)


def test_memory_does_not_grow_with_the_corpus() -> None:
    def texts(number: int) -> Iterator[tuple[str, str]]:
        for n in range(number):
            yield f"t{n}", QUESTION if n % 3 == 0 else f"{n} other words entirely " * 20

    def peak(number: int) -> int:
        check = OverlapCheck([("q", QUESTION)])
        tracemalloc.start()
        for source, text in texts(number):
            check.read(source, text)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert check.result().items[0].num_sources == (number + 2) // 3
        return most

    assert peak(600) < 2 * peak(30)


@pytest.mark.skipif(not MEDQA.exists(), reason="the published exams are not here")
def test_a_published_exam_overlaps_with_itself_and_not_with_other_words() -> None:
    lines = MEDQA.read_text("utf-8").splitlines()
    items = [(str(n), msgspec.json.decode(line)["question"]) for n, line in enumerate(lines, 1)]
    assert find_overlap(items, items).share == 1
    own = [("t", "The patient says she has not slept for days and hears her late sister speak at night.")] * 5
    assert find_overlap(items, own).share == 0
