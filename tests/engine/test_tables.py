"""What is printed moves no terminal, and JSON means the same to its readers."""

import json

import msgspec
import pytest

from engine.panel import make_panel
from engine.run_copy import copy_problem
from engine.tables import say, write, write_json
from engine.transcript import clean
from tests.pages import PAYLOADS


def moves_a_terminal(said: str) -> bool:
    return any(ord(one) < 32 and one != "\n" or clean(one) != one for one in said if one != "\n")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_lines_are_cleaned_on_their_way_out(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(payload)
    say(payload)
    said = capsys.readouterr()
    assert said.out == said.err == f"{clean(payload)}\n" and not moves_a_terminal(said.out)


def test_news_of_any_kind_holds_no_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    key = "Zq7vN2LpRx0sWd9KtY4mBc"
    monkeypatch.setenv("STORE_SECRET", key)
    say(f"a library says {key}")
    make_panel(False).say(f"a replica says {key}")
    said = capsys.readouterr().err
    assert "a library says ***" in said and "a replica says ***" in said
    assert key not in copy_problem(OSError(f"PUT with {key} was refused"))


@pytest.mark.parametrize("payload", [one for one in PAYLOADS if "\ud800" not in one])
def test_json_is_spelled_in_ascii_and_stays_what_it_is(payload: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = {payload: [payload, 1.5, None, "🙂"]}
    write_json(msgspec.json.encode(value))
    said = capsys.readouterr().out
    assert json.loads(said) == value and not moves_a_terminal(said) and said.isascii() and said.count("\n") == 1
