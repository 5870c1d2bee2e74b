"""Pages: text stays text, elements are balanced, and the policy allows nothing but the page's own style."""

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.page.markup import MAX_CHARS, element, folded, heading, page, pairs_table, paragraph, table, text
from engine.transcript import clean
from tests.pages import PAYLOADS, read_page

TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from(PAYLOADS)


def whole(*texts: str) -> str:
    """A page that shows these texts wherever a text may stand."""
    first = texts[0] if texts else ""
    return page(
        first,
        heading(2, first),
        *(paragraph(one) for one in texts),
        table(texts, [texts, texts[:1], (*texts, "more than heads")], numbers=texts[:1], flagged=[1]),
        pairs_table([(one, one) for one in texts]),
        folded(first, *(element("li", text(one), class_=one) for one in texts)),
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_hostile_text_is_shown_as_it_was_cleaned_and_is_nothing_else(payload: str) -> None:
    read = read_page(whole(payload, "calm"))
    shown = clean(payload)
    assert read.texts["title"] == [shown]
    assert read.texts["h1"] == [shown]
    assert read.texts["p"][1:] == [shown, "calm"]
    assert read.texts["th"] == [shown, "calm", shown, "calm"]
    assert read.texts["td"] == [shown, "calm", shown, "", shown, "calm", "more than heads", shown, "calm"]
    assert read.texts["summary"] == [shown]
    assert read.texts["li"] == [shown, "calm"]


@given(st.lists(TEXTS, max_size=4))
def test_any_text_stays_text(texts: list[str]) -> None:
    page_text = whole(*texts)
    read = read_page(page_text)
    assert read.texts["p"][1:] == [clean(one) for one in texts]
    assert page_text.encode()
    assert not any(ord(character) < 32 and character != "\n" for character in page_text)


def test_the_policy_allows_the_one_style_by_its_hash_and_nothing_else() -> None:
    made = page("A run")
    policy = read_page(made).metas[1]
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in (policy["content"] or "").split(";"))
    style = re.search("<style>(.*?)</style>", made, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "url(" not in style[1] and "@import" not in style[1]


def test_a_long_text_is_cut_and_says_by_how_much() -> None:
    assert text("x" * MAX_CHARS) == "x" * MAX_CHARS
    assert text("<" * (MAX_CHARS + 1500)).endswith("&lt;… (1,500 characters more)")


def test_every_page_says_what_it_is_not_for() -> None:
    assert "not for anyone in crisis" in read_page(page("x")).texts["p"][0]


def test_a_folded_part_may_be_open() -> None:
    assert folded("more", paragraph("x"), is_open=True).startswith('<details open=""><summary>more</summary><p>')
    assert folded("more").startswith("<details><summary>")
