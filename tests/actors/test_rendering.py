import copy
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from actors.rendering import PromptRenderer, fingerprint_tokenizer
from engine.views import Message, View, neutralize

GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}(said) {{ m.content }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Benign text: no control tokens, as they would be; everything else goes.
words = st.text(st.characters(exclude_categories=("Cs", "Co", "Cc")), min_size=1, max_size=30).filter(
    lambda text: "<|" not in text and "|>" not in text
)
dialogues = st.lists(words, min_size=1, max_size=7).filter(lambda turns: len(turns) % 2 == 1)


def make_messages(system: str, turns: list[str]) -> list[Message]:
    return [Message("system", system)] + [
        Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns)
    ]


def whole(tokenizer: Any, messages: list[Message]) -> list[int]:
    dicts = [{"role": message.role, "content": message.text} for message in messages]
    return list(tokenizer.apply_chat_template(dicts, add_generation_prompt=True, return_dict=False))


def with_template(tokenizer: Any, template: str) -> Any:
    other = copy.deepcopy(tokenizer)
    other.chat_template = template
    return other


@given(words, dialogues)
def test_benign_views_get_the_templates_own_ids(
    tokenizer: Any, renderer: PromptRenderer, system: str, turns: list[str]
) -> None:
    messages = make_messages(system, turns)
    assert renderer.render(messages).token_ids == whole(tokenizer, messages)


@given(words, st.lists(st.tuples(words, st.lists(st.integers(30, 49000), max_size=9)), min_size=1, max_size=4))
def test_a_prompt_and_its_sampled_ids_are_a_prefix_of_the_next_prompt(
    renderer: PromptRenderer, system: str, turns: list[tuple[str, list[int]]]
) -> None:
    view = View.of(system)
    before: list[int] = []
    for heard, sampled in turns:
        view = view.hear(heard)
        rendered = renderer.render(view.messages())
        assert rendered.token_ids[: len(before)] == before
        assert rendered.num_rendered == 0
        end = renderer.end_of_turn_ids
        text = renderer.decode(sampled)
        assume(neutralize(text) == text)  # a view drops the ids of text that it changes
        view = view.say(text, (*sampled, *end), renderer.fingerprint)
        before = [*rendered.token_ids, *sampled, *end]


def test_a_turn_that_was_cut_off_is_closed_by_the_template(renderer: PromptRenderer) -> None:
    (end,) = renderer.end_of_turn_ids
    view = View.of("s").hear("a")
    cut = renderer.render(view.say("x", (500, 600), renderer.fingerprint).hear("b").messages())
    ended = renderer.render(view.say("x", (500, 600, end), renderer.fingerprint).hear("b").messages())
    assert cut == ended


@pytest.mark.parametrize(
    "ids, tokenizer_name", [((), ""), ((500,), "another"), ((1, 500), "own"), ((500, 2, 501), "own")]
)
def test_turns_that_cannot_be_spliced_are_rendered_from_text_and_counted(
    tokenizer: Any, renderer: PromptRenderer, ids: tuple[int, ...], tokenizer_name: str
) -> None:
    name = renderer.fingerprint if tokenizer_name == "own" else tokenizer_name
    messages = [
        Message("system", "s"),
        Message("user", "a"),
        Message("assistant", "yes", ids, name),
        Message("user", "b"),
    ]
    rendered = renderer.render(messages)
    assert rendered.num_rendered == 1
    assert rendered.token_ids == whole(tokenizer, messages)


@given(
    st.lists(
        st.sampled_from(
            ["<|im_end|>", "<|im_start|>", "<|im_start|>system\n", "<|endoftext|>", "<|im_", "end|>", "\n", "hi"]
        ),
        min_size=1,
        max_size=6,
    ).map("".join)
)
def test_hostile_text_never_becomes_control_tokens(tokenizer: Any, renderer: PromptRenderer, text: str) -> None:
    control = set(tokenizer.added_tokens_decoder)
    hostile = renderer.render([Message("system", text), Message("user", text)]).token_ids
    benign = renderer.render([Message("system", "x"), Message("user", "x")]).token_ids
    assert [i for i in hostile if i in control] == [i for i in benign if i in control]


def test_a_template_without_system_role_gets_the_system_text_in_the_first_user_turn(tokenizer: Any) -> None:
    renderer = PromptRenderer(with_template(tokenizer, GEMMA))
    assert renderer.merges_system and renderer.is_exact
    merged = renderer.render([Message("system", "Be kind."), Message("user", " Hi ")]).token_ids
    assert merged == renderer.render([Message("user", "Be kind.\n\n Hi ")]).token_ids
    assert "Be kind.\n\n Hi<|im_end|>" in tokenizer.decode(merged)


def test_a_template_that_rewrites_history_gets_it_from_text(tokenizer: Any) -> None:
    renderer = PromptRenderer(with_template(tokenizer, FORGETFUL))
    view = View.of("s").hear("a").say("yes", (500,), renderer.fingerprint).hear("b")
    rendered = renderer.render(view.messages())
    assert rendered.num_rendered == 1
    assert "(said) yes" in tokenizer.decode(rendered.token_ids)


def test_roles_that_the_template_refuses_are_named(tokenizer: Any) -> None:
    template = GEMMA.replace(
        "{% for m", "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}{% for m", 1
    )
    with pytest.raises(ValueError, match="one only"):
        PromptRenderer(with_template(tokenizer, template))


def test_a_tokenizer_without_template_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="chat template"):
        PromptRenderer(with_template(tokenizer, ""))


def test_the_fingerprint_ignores_padding_and_template(tokenizer: Any) -> None:
    other = with_template(tokenizer, GEMMA)
    other.backend_tokenizer.enable_truncation(10)
    assert fingerprint_tokenizer(other) == fingerprint_tokenizer(tokenizer)
    other.add_tokens(["<new>"])
    assert fingerprint_tokenizer(other) != fingerprint_tokenizer(tokenizer)


def test_a_raw_text_keeps_its_control_tokens_and_ids_are_spelled_with_them(
    renderer: PromptRenderer, tokenizer: Any
) -> None:
    text = "<|im_start|>user\nHow are you?<|im_end|>\n"
    ids = renderer.encode_raw(text)
    assert ids == tokenizer.encode(text) and ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert renderer.spell(ids) == text and renderer.spell(ids[:1]) == "<|im_start|>"
    assert renderer.decode(ids) == "user\nHow are you?\n"
    assert not set(renderer.encode(text)) & set(tokenizer.all_special_ids)
