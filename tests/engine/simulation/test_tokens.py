from hypothesis import given
from hypothesis import strategies as st

from engine.simulation.tokens import HEAD_TOKENS, TAIL_TOKENS, Tokens
from engine.token_count import bytes_count
from engine.views import View

SIZE = 16
GLUE = HEAD_TOKENS + TAIL_TOKENS


def shared(one: list[int], two: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def make_view(*turns: str) -> View:
    view = View.of("You are a therapist. " * 20)
    for number, turn in enumerate(turns):
        view = view.say(turn) if number % 2 else view.hear(turn)
    return view


def test_a_prompt_counts_texts_and_glue() -> None:
    tokens = Tokens(bytes_count, SIZE)
    prompt = tokens.prompt("e", View.of("a" * 40).hear("b" * 80).messages(), "c", 1)
    assert prompt.num_tokens == 10 + 20 + 2 * GLUE + HEAD_TOKENS
    assert len(prompt.hashes) == prompt.num_tokens // SIZE


@given(st.integers(1, 200), st.booleans())
def test_the_next_prompt_extends_what_was_sampled(num_content: int, is_cut: bool) -> None:
    tokens, view = Tokens(bytes_count, SIZE), make_view("hello " * 9)
    first = tokens.prompt("e", view.messages(), "the answer", num_content)
    length = num_content if is_cut else num_content + 1
    second = tokens.prompt("e", view.say("the answer").hear("and then? " * 9).messages(), "b", 1)
    held = first.grown(length)
    computed = (first.num_tokens + length - 1) // SIZE
    assert shared(held, second.hashes) >= computed


def test_forks_share_what_stands_before_the_added_paragraph() -> None:
    tokens, view = Tokens(bytes_count, SIZE), make_view("hello " * 60)
    one = tokens.prompt("e", view.hear("What do you think of this? " * 5).messages(), "x", 1)
    two = tokens.prompt("e", view.hear("And what do you feel about it? " * 5).messages(), "y", 1)
    plain = tokens.prompt("e", view.messages(), "z", 1)
    before = (plain.num_tokens - HEAD_TOKENS - TAIL_TOKENS) // SIZE
    assert shared(one.hashes, two.hashes) == before
    assert shared(one.hashes, plain.hashes) >= before


def test_episodes_share_equal_texts_and_nothing_else() -> None:
    tokens = Tokens(bytes_count, SIZE)
    one = tokens.prompt("a", make_view("hello " * 30).messages(), "x", 5)
    two = tokens.prompt("b", make_view("hello " * 30).messages(), "x", 5)
    other = tokens.prompt("c", make_view("goodbye " * 30).messages(), "x", 5)
    assert one.hashes == two.hashes
    assert shared(one.hashes, other.hashes) == (HEAD_TOKENS * 2 + TAIL_TOKENS + 105) // SIZE


def test_possible_hits_are_what_was_seen_before_in_whole_blocks() -> None:
    tokens, view = Tokens(bytes_count, SIZE), make_view("hello " * 30)
    first = tokens.prompt("e", view.messages(), "the answer", 100)
    assert first.possible == 0
    tokens.completed("e", first, 101)
    second = tokens.prompt("e", view.say("the answer").hear("go on").messages(), "b", 1)
    assert second.possible >= (first.num_tokens + 100) // SIZE * SIZE


def test_a_completion_counts_as_sampled_wherever_it_is_quoted() -> None:
    tokens = Tokens(bytes_count, SIZE)
    tokens.prompt("e", make_view("hello").messages(), "a short text", 77)
    heard = tokens.prompt("e", View.of("s" * 4).hear("a short text").messages(), "b", 1)
    assert heard.num_tokens == 1 + 77 + 2 * GLUE + HEAD_TOKENS


def test_a_forgotten_episode_leaves_nothing() -> None:
    tokens = Tokens(bytes_count, SIZE)
    tokens.prompt("e", make_view("hello", "yes", "go on").messages(), "x", 5)
    tokens.forget("e")
    assert tokens._trees == {}
