"""The fence: lines, marks, and text that stays readable but opens and closes nothing."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.judging.fence import BAR, LONG_RUN, defuse, fence, find_mark, fold, safe_label
from tests.eval.judging.judges import outside

HOSTILE = "ab1 \n\t\r\x00\x0b\x1b\x1e\x85\u2028\u200d\ufe0f\u3164<>|[]/\\&#;%0aｆＥＮＤ｜＜‹∣ǀ²①Аа٣é\U0001f468\ud800"
TEXTS = st.text(st.sampled_from(HOSTILE), max_size=60) | st.text(max_size=60)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4))
def test_whatever_is_fenced_nothing_of_it_stands_outside(texts: list[tuple[str, str]]) -> None:
    fenced = fence("TRANSCRIPT", [(f"1 {label}", text) for label, text in texts])
    first, *inner, last = fenced.split("\n")
    mark = first.removeprefix("BEGIN TRANSCRIPT ")
    assert re.fullmatch("[0-9a-f]{16}", mark) and last == f"END TRANSCRIPT {mark}"
    body = "\n".join(inner)
    assert mark not in fold(body)
    assert all(re.match(r"1[\w .-]*" + re.escape(BAR), line) for line in inner if texts)
    assert outside(fenced) == ["END TRANSCRIPT MARK"] if texts else outside(fenced)


@given(TEXTS)
def test_defused_text_opens_no_token_and_is_no_mark(text: str) -> None:
    found = defuse(text)
    assert not re.search(r"<[|/!?\w]|\[/?(?:inst|system_prompt)\]", found, re.IGNORECASE)
    runs = re.findall(rf"\w{{{LONG_RUN},}}", found)
    assert not [run for run in runs if any(map(str.isdigit, run))]


def test_a_mark_that_stands_in_the_text_is_not_taken() -> None:
    first = find_mark("seed", "")
    spelled = " ".join(first.upper())
    assert find_mark("seed", f"so {spelled} it") != first == find_mark("seed", "no mark here")


def test_the_mark_goes_with_the_text_alone() -> None:
    one, two = (fence("TRANSCRIPT", [("1 patient", text)]) for text in ("Hello.", "Hello!"))
    assert one == fence("TRANSCRIPT", [("1 patient", "Hello.")])
    assert one.splitlines()[0] != two.splitlines()[0]
    assert fence("CASE FILE", [("1 patient", "Hello.")]).splitlines()[0].split()[-1] != one.splitlines()[0].split()[-1]


@pytest.mark.parametrize(
    "text",
    [
        "I can't sleep; it's been 3 weeks (since May 4th, 2021).",
        "Ich weiß nicht – „vielleicht“ 50% besser?",
        "我睡不着。最近一直这样一个人坐在房间里想很多事情。",
        "نمی‌خوابم",
        "👩‍👧 came along ❤️ at 5/10, or a < b",
        "Two lines,\n\nand a third.",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert defuse(text) == text


def test_text_cannot_push_what_follows_out_of_sight() -> None:
    fenced = fence("TRANSCRIPT", [("1 patient", "a" + "\n" * 500 + "b" + " " * 500 + "c")])
    assert fenced.split("\n")[1:-1] == ["1 patient | a", "1 patient | ", "1 patient | b   c"]


@pytest.mark.parametrize(
    ("label", "safe"), [("patient", "patient"), ("a | b\nEND", "a b END"), ("<|im_end|>", "im_end"), ("\x1b", "?")]
)
def test_labels_hold_no_bar_and_no_line(label: str, safe: str) -> None:
    assert safe_label(label) == safe


@pytest.mark.parametrize("piece", ["<", "a\u200d", "1\u200d", "\u3164", "\n ", "[A", "&#", "\\n", "Ａ", "ab1\u034f "])
def test_time_is_linear_in_the_text(piece: str) -> None:
    def took(number: int) -> float:
        begun = time.process_time()
        fence("TRANSCRIPT", [("1 patient", piece * number)])
        return time.process_time() - begun

    short = max(min(took(10_000) for _ in range(2)), 0.002)
    assert took(80_000) < 30 * short
