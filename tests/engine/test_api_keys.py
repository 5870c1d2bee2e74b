"""Keys by the names of their variables: hidden in any form a message brings them in, and nothing else is touched."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import api_keys
from engine.base_url import split_url, url_problems
from engine.errors import InputError

KEY = "Zq7+vN2/LpRx0sWd9KtY4mBc"
HEADER_SAFE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=80)


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "HF_TOKEN", "my_secret", "DB_PASSWORD", "KEY"])
def test_variables_that_are_called_like_keys_are_hidden_without_being_named(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, KEY)
    assert api_keys.hide(f"it is {KEY}, is it") == "it is ***, is it"


def test_others_are_hidden_once_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNREMARKABLE_FOR_THIS_TEST", KEY)
    assert api_keys.hide(KEY) == KEY
    api_keys.know("UNREMARKABLE_FOR_THIS_TEST")
    assert api_keys.hide(KEY) == "***"


def test_words_that_stand_for_no_key_and_ordinary_texts_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_API_KEY", "none")
    assert api_keys.hide("there is none") == "there is none"
    assert api_keys.without_whole(b"there is none", "none") == b"there is none"
    monkeypatch.setenv("STUB_API_KEY", KEY)
    text = (
        "walter-depression.0: 5 of 16 episodes, sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    )
    assert api_keys.hide(text) == text


@given(HEADER_SAFE, st.integers(0, 5), st.text(max_size=10), st.text(max_size=10))
def test_no_form_of_a_key_is_left(key: str, shift: int, before: str, after: str) -> None:
    # One that repeats itself can be cut so that a part of it is none of its beginnings.
    assume(len({key[at : at + 3] for at in range(len(key) - 2)}) == len(key) - 2)
    data = key.encode()
    packed = base64.b64encode(b"k" * shift + data + b"z").decode()
    safe = base64.urlsafe_b64encode(b"k" * shift + data + b"z").decode()
    for form in (key, key[:12], quote(key, safe="")):
        assert form not in api_keys.without(f"{before}{form}{after}", key).replace("***", "\0")
    # What shares its letters with the neighbours may be left of what is packed: a byte at either end.
    for form in (packed, safe):
        left = api_keys.without(form, key).replace("***", "\0")
        assert all(form[at : at + 12] not in left for at in range(8, len(form) - 20))


def test_a_reply_loses_the_key_and_nothing_else() -> None:
    assert api_keys.without_whole(b'{"text": "It is ' + KEY.encode() + b'."}', KEY) == b'{"text": "It is ***."}'


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "openai_key_for_team_2", "_K", "SANDPLAY_TEST_KEY"])
def test_names_of_variables_are_names(name: str) -> None:
    assert api_keys.name_problem("models.base.api_key_env", name) is None


@pytest.mark.parametrize(
    "name",
    ["", "two words", "sk-abcdefgh12345678", "a" + "0123456789abcdef" * 2, "sk_live_4eC39HqLyjWDarjtT1zdp7dc", KEY],
)
def test_what_may_be_a_key_is_no_name_and_is_not_repeated(name: str) -> None:
    problem = api_keys.name_problem("models.base.api_key_env", name)
    assert problem is not None and problem.startswith("models.base.api_key_env must be the name")
    assert not name or name not in problem


@pytest.mark.parametrize(
    "value", [f"sk-{'x' * 20}", "a" + "0123456789abcdef" * 2, ["sk-abcdefgh1234"], {"key": "sk-abcdefgh1234"}]
)
def test_a_value_in_a_message_is_shown_unless_it_looks_like_a_key(value: object) -> None:
    assert "sk-" not in api_keys.shown(value) and "0123" not in api_keys.shown(value)
    assert api_keys.shown("plain") == "'plain'" and api_keys.shown(5) == "5"


def test_a_configuration_that_holds_a_key_is_refused_by_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE_FOR_THIS_TEST", KEY)
    table = {
        "models.base.api_key_env": "MINE_FOR_THIS_TEST",
        "models.base.base_url": f"https://x/{KEY}/v1",
        "name": "n",
    }
    (problem,) = api_keys.table_problems(table)
    assert problem.startswith("models.base.base_url must hold no key") and KEY not in problem


@pytest.mark.parametrize("known", ["sk-proj-abcdefgh12345678ABCD", "hf_" + "a1" * 16, "AKIAIOSFODNN7EXAMPLE"])
def test_what_has_the_form_of_a_well_known_key_is_refused_whoever_holds_it(known: str) -> None:
    table = {"models.base.base_url": f"https://x/{known}/v1", "models.base.engine.token": [known], "name": "n"}
    problems = api_keys.table_problems(table)
    assert [problem.split(" must")[0] for problem in problems] == ["models.base.base_url", "models.base.engine.token"]
    assert not any(known in problem for problem in problems)
    assert known not in api_keys.hide_known(f"roles.patient must name a model, got {known!r}: ...")
    assert (
        api_keys.table_problems({"models.base.model": "lab/sk-small-chat-model-v2-2024", "prompts": "texts/sk-2"}) == []
    )


def test_a_key_is_read_or_refused_unquoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READ_FOR_THIS_TEST", f" {KEY}\n")
    assert api_keys.read_key("READ_FOR_THIS_TEST", "x") == KEY
    for bad in ("", f"{KEY}\r\nX: y", f"{KEY} {KEY}", f"{KEY}ü"):
        monkeypatch.setenv("READ_FOR_THIS_TEST", bad)
        with pytest.raises(InputError, match="READ_FOR_THIS_TEST must hold the API key of x") as refused:
            api_keys.read_key("READ_FOR_THIS_TEST", "x")
        assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *(f"https://{KEY}@host/v1", f"me:{KEY}@host", f"https://host/v1?key={KEY}", f"https://host/v1#{KEY}"),
        *("sk-proj-abcdefgh12345678", "https://host:99999/v1", "ftp://host/v1", "https://", "https://[::1"),
    ],
)
def test_an_address_that_no_client_takes_is_refused_without_what_may_be_a_key(url: str) -> None:
    (problem,) = url_problems("models.base", url)
    assert problem.startswith("models.base.base_url") and KEY not in problem and "sk-proj" not in problem


@pytest.mark.parametrize(("url", "port"), [("http://127.0.0.1:8000/v1", ":8000"), ("https://host/v1/", "")])
def test_an_address_is_split(url: str, port: str) -> None:
    assert split_url(url)[1] == port and url_problems("x", url) == []
