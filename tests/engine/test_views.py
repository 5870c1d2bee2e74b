"""Views: growth at the end, joining, digests, and control tokens that stay text."""

from hashlib import blake2b

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


ACTS = st.lists(st.tuples(st.sampled_from(["hear", "say", "fork"]), st.integers(0, 30)), max_size=30)


@given(ACTS, st.booleans())
def test_views_that_share_a_log_see_only_their_own(acts: list[tuple[str, int]], is_common: bool) -> None:
    """Against plain lists: any view may be gone on from at any time, and no other one ever changes."""
    start = View.common("s", "a") if is_common else View.of("s").hear("a")
    views, plain = [start], [[("system", "s"), ("user", "a")]]
    for number, (act, chosen) in enumerate(acts):
        at = chosen % len(views) if act == "fork" else len(views) - 1
        view, seen = views[at], plain[at]
        text = str(number)
        if act == "say" and seen[-1][0] == "user":
            views.append(view.say(text))
            plain.append([*seen, ("assistant", text)])
        elif seen[-1][0] == "user":
            views.append(view.hear(text))
            plain.append([*seen[:-1], ("user", seen[-1][1] + JOINT + text)])
        else:
            views.append(view.hear(text))
            plain.append([*seen, ("user", text)])
    if acts and acts[0][1] % 2:  # digests of some views before those of others
        assert len(views[len(views) // 2].digest) == 16
    for view, seen in zip(views, plain, strict=True):
        assert [(message.role, message.text) for message in view.messages()] == seen
        assert view.message == view.messages()[-1]
        assert [node.message for node in view] == list(view.messages())
        assert view.digest == make_view(seen).digest


def make_view(seen: list[tuple[str, str]]) -> View:
    view = View.of(seen[0][1])
    for role, text in seen[1:]:
        view = view.hear(text) if role == "user" else view.say(text)
    return view


def test_digests_are_those_that_journals_hold() -> None:
    view = View.of("s").hear("a").say("b")
    digest = b""
    for message in view.messages():
        digest = blake2b(digest + f"{message.role}\0{message.text}".encode(), digest_size=16).digest()
    assert view.digest == digest


def test_a_common_beginning_is_shared_and_never_grows() -> None:
    one, two = View.common("s", "a"), View.common("s", "a")
    assert one is two
    said = [one.say(text) for text in ("x", "y")]
    assert [view.message.text for view in said] == ["x", "y"]
    assert len(one.log.messages) == len(one.messages()) == 2
