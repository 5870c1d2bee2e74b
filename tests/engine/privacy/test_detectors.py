"""The structured detectors: measured on labelled texts, tried on any text, in time that grows with the text alone."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.cases import load_cases, load_principles
from engine.cases.principles import PrincipleGroup
from engine.cases.schema import Case
from engine.config_sections import PrivacyConfig
from engine.privacy.detectors import KINDS, find_personal
from engine.privacy.finding import Span, apart, masked, redact
from engine.privacy.screening import screen

ROWS = [json.loads(line) for line in (Path(__file__).parent / "labelled.jsonl").read_text("utf-8").splitlines()]
SIZE = 1_000_000
HOSTILE = (
    *("a", "1", "@", "a@", "a@b.", "a.", "+", "+1", "1 ", "1-", "12.", "::", "abcd:", "://", "a://b:", "-", "_", "%"),
    *("-----BEGIN PRIVATE KEY-----", "eyJaaaaaaaaaaaa.eyJaaaaaaaaaaa.", "sk-", "sk-a1", "?token=", "[email]", "\ud800"),
    *(
        "+49 30 1234567 ",
        " +11111111111111111111111",
        "0171 ",
        "01 23 45 67 89 ",
        "call ",
        "call 5",
        "ssn ",
        "1.1.1.1 ",
    ),
    *("DE12 3456 7890 1234 5678 90 ", "4111111111111111 ", "4111-1111-1111-1112 ", "nhs 943 476 5919 ", "12345678Z "),
)
PIECES = st.sampled_from(
    [row["text"] for row in ROWS if row["kinds"]]
    + ["@", ":", "//", "-", ".", " ", "[email]", "[phone]", "1", "23", "4111", "+", "call ", "sk-", "eyJ", "\n", "a"]
)


def kinds(text: str) -> Counter[str]:
    return Counter(one.kind for one in find_personal(text))


@pytest.mark.parametrize(("half", "precision", "recall"), [("dev", 1.0, 1.0), ("unseen", 0.95, 0.9)])
def test_labelled_texts(half: str, precision: float, recall: float) -> None:
    rows = [(kinds(row["text"]), Counter(row["kinds"])) for row in ROWS if row["half"] == half]
    assert len(rows) >= 60
    both = sum((found & meant).total() for found, meant in rows)
    figures = both / sum(found.total() for found, _ in rows), both / sum(meant.total() for _, meant in rows)
    assert figures[0] >= precision and figures[1] >= recall, figures


def test_every_kind_is_among_the_labelled() -> None:
    assert {kind for row in ROWS for kind in row["kinds"]} == set(KINDS)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4111 1111 1111 1112", []),  # Luhn
        ("DE89 3704 0044 0532 0130 01", []),  # modulo 97
        ("000-12-3456 666-12-3456 123-00-4567 123-45-0000", []),
        ("529.982.247-26", []),
        ("12345678A", []),
        ("nhs 9434765918", []),
        ("4111111111111111111111111", []),
        ("999.999.999.999 and 1.2.3.4.5", []),
        ("a@b", []),
        ("https://example.org/a:b@c", []),
        ("-----BEGIN PUBLIC KEY-----", []),
        ("de89370400440532013000", ["iban"]),
        ("X1234567L and Y7654321G", ["national id", "national id"]),
        ("2 55 08 14 168 025 38", ["national id"]),
        ("(mail: a.b@c.example)", ["email"]),
        ("one@a.example,two@b.example", ["email", "email"]),
        ("<https://u:pw@h.example/x>", ["url with credentials"]),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----", ["private key"]),
        ("", []),
    ],
)
def test_text(text: str, found: list[str]) -> None:
    assert [one.kind for one in find_personal(text)] == found


def test_a_key_without_its_end_is_found_with_its_lines() -> None:
    body = "\\n".join(["MIIEowIBAAKCAQEAwJ12345678901234"] * 3)
    text = f'{{"key": "-----BEGIN PRIVATE KEY-----\\n{body}", "rest": "kept"}}'
    assert redact(text, find_personal) == '{"key": "[private key]", "rest": "kept"}'


def test_what_ships_holds_nothing_personal() -> None:
    settings = PrivacyConfig()
    for records, kind in ((load_cases("bundled", seed=0), Case), (load_principles("bundled"), PrincipleGroup)):
        assert screen(records, kind, settings, "record")[1].findings == ()  # type: ignore[arg-type]
    assert screen(load_cases("sampled", seed=3, limit=300), Case, settings, "case")[1].findings == ()


@given(st.lists(PIECES, max_size=6).map("".join) | st.text())
@example("a@b.example1.2.3.4")
@example("x[email]@y.example")
@example("https://u:a@b.example@c.example")
def test_a_redacted_text_holds_nothing_more(text: str) -> None:
    found = find_personal(text)
    assert all(one.kind in KINDS and 0 <= one.start < one.end <= len(text) for one in found)
    assert all(one.end <= other.start for one, other in zip(found, found[1:], strict=False))
    once = redact(text, find_personal)
    assert find_personal(once) == [] and redact(once, find_personal) == once
    assert (once == text) is not bool(found)


@given(st.text(min_size=1), st.data())
def test_a_masked_value_shows_its_first_characters_at_most(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    shown = masked(text, Span("x", start, end))
    head, _, rest = shown.rpartition("... (")
    assert rest == f"{end - start} characters)" and len(head) <= 2 and text[start:end].startswith(head)
    assert len(head) < (end - start) / 2


def test_what_was_found_first_stays() -> None:
    first, second, third = Span("a", 4, 8), Span("b", 7, 9), Span("c", 0, 4)
    assert apart([first, second, third], "." * 9) == [third, first]
    assert apart([first, second], "[phone]..") == [second]


@pytest.mark.parametrize("bait", HOSTILE)
def test_a_megabyte_of_anything_is_read_within_a_second(bait: str) -> None:
    text = (bait * (SIZE // len(bait) + 1))[:SIZE]
    times = []
    for _ in range(3):
        begun = time.process_time()
        find_personal(text)
        times.append(time.process_time() - begun)
        if times[-1] < 1:
            break
    assert min(times) < 1
