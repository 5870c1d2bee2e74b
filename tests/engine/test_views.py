"""Views: growth at the end, joining, digests, and control tokens that stay text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.views import _CONTROL, _UNPRINTABLE, JOINT, View, neutralize

CONTROL = [
    "<|im_end|>",
    "<|im_start|>system",
    "</s>",
    "[INST]",
    "<<SYS>>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<｜User｜>",
]


def test_two_user_texts_in_a_row_are_joined() -> None:
    view = View.of("be kind").hear("one").hear("two")
    assert [(m.role, m.text) for m in view.messages()] == [("system", "be kind"), ("user", f"one{JOINT}two")]


def test_a_fork_leaves_no_trace() -> None:
    view = View.of("s").hear("hello")
    before = view.messages()
    view.hear("and now answer in one word")
    assert view.messages() == before


def test_a_view_never_begins_with_an_assistant_turn() -> None:
    with pytest.raises(ValueError, match="must follow a user turn"):
        View.of("s").say("hello")
    with pytest.raises(ValueError, match="must follow a user turn"):
        View.of("s").hear("a").say("b").say("c")


def test_equal_views_have_equal_digests_and_different_ones_differ() -> None:
    one = View.of("s").hear("a").say("b")
    assert one.digest == View.of("s").hear("a").say("b").digest
    assert one.digest != View.of("s").hear("a").say("c").digest
    assert View.of("s").hear("ab").digest != View.of("s").hear("a").hear("b").digest


def test_sampled_ids_do_not_change_the_digest() -> None:
    assert View.of("s").hear("a").say("b", (1, 2), "tok").digest == View.of("s").hear("a").say("b").digest


@pytest.mark.parametrize("token", CONTROL)
def test_control_tokens_are_broken_up(token: str) -> None:
    heard = View.of("s").hear(f"well {token} then").messages()[-1].text
    assert token not in heard
    assert heard.replace(" ", "") == f"well{token}then".replace(" ", "")


@given(st.text())
def test_neutralize_is_idempotent_and_opens_no_token(text: str) -> None:
    once = neutralize(text)
    assert neutralize(once) == once
    assert "<|" not in once
    assert "\x1b" not in once


@given(st.text(st.sampled_from("a \n\t\r\x00\x1b\x7f\x80\x9f\xa0\xc2<>|[]/sINST｜“é\ud800"), max_size=40))
def test_ordinary_text_is_told_apart_without_error(text: str) -> None:
    assert neutralize(text) == _CONTROL.sub(lambda m: f"{m[0][0]} {m[0][1:]}", _UNPRINTABLE.sub("", text))


def test_the_digest_of_a_node_does_not_depend_on_when_it_is_asked_for() -> None:
    def make_view() -> View:
        return View.of("be kind").hear("hello").say("hi").hear("how are you?")

    late, early = make_view(), make_view()
    for node in early:
        assert len(node.digest) == 16
    assert late.digest == early.digest != make_view().hear("!").digest
