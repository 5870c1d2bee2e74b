"""Data as it is read in: warned of, replaced or refused, and never shown."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import tomli_w

from engine.cases.schema import Case
from engine.config_sections import PrivacyConfig
from engine.errors import ConfigError, InputError
from engine.planning import freeze, make_plan, thaw
from engine.privacy.finding import Span
from engine.privacy.screening import Screened, look_through, screen
from engine.rundir import RunDirectory
from tests.engine.protocols.driving import make_case

MAIL, PHONE = "nora@harbour.example", "+44 20 7946 0958"
CASES = [make_case(), make_case(id="c2", history=f"Write to {MAIL}.", emotion=("sad", f"call {PHONE}"))]


def with_scan(scan: Any, cases: list[Case] = CASES) -> tuple[list[Case], Screened]:
    return screen(cases, Case, PrivacyConfig(scan=scan), "case")


def test_a_warning_counts_and_shows_places_not_values() -> None:
    cases, found = with_scan("warn")
    assert cases == CASES and found.counts == {"email": 1, "phone": 1}
    assert found.findings[0].line == "case 2 (c2), history: email no... (20 characters)"
    for part in ("1 email, 1 phone", "case 2 (c2), emotion: phone +4... (16 characters)", 'privacy.scan = "redact"'):
        assert part in found.sentence
    assert MAIL not in repr(found) and PHONE not in repr(found)
    assert Screened().sentence == ""


def test_redaction_replaces_and_says_so() -> None:
    cases, found = with_scan("redact")
    assert cases[0] is CASES[0] and cases[1].id == "c2"
    assert (cases[1].history, cases[1].emotion) == ("Write to [email].", ("sad", "call [phone]"))
    assert found.sentence.endswith("they were replaced")
    assert with_scan("redact", cases) == (cases, Screened())


def test_blocking_names_every_place_at_once() -> None:
    with pytest.raises(InputError) as refused:
        with_scan("block")
    assert [problem.split(": must")[0] for problem in refused.value.problems] == [
        "case 2 (c2), history",
        "case 2 (c2), emotion",
    ]
    assert MAIL not in str(refused.value) and PHONE not in str(refused.value)


def test_switched_off_nothing_is_looked_at() -> None:
    assert with_scan("off") == (CASES, Screened())


def test_an_id_cannot_be_replaced_and_is_not_shown() -> None:
    cases = [make_case(id=MAIL)]
    _, found = with_scan("warn", cases)
    assert found.findings[0].line.startswith("case 1 ([email]), id: email")
    with pytest.raises(InputError, match="rename it") as refused:
        with_scan("redact", cases)
    assert MAIL not in str(refused.value)


class Odd(msgspec.Struct, frozen=True):
    """A record with a field that takes few texts."""

    id: str
    kind: str
    link: dict[str, Any] = {}


def test_records_of_any_type_are_replaced_whatever_their_depth() -> None:
    one = Odd("a", "x", {"id": MAIL, "deep": [{"far": f"{PHONE} and {PHONE}"}]})
    (found,), _ = screen([one], Odd, PrivacyConfig(scan="redact"), "record")
    assert found == Odd("a", "x", {"id": "[email]", "deep": [{"far": "[phone] and [phone]"}]})
    assert [one.field for one in look_through({"a": {"b": [PHONE]}, MAIL: PHONE}, "r", find)] == [
        "a.b",
        "a name in it",
        "[x]",
    ]


def test_names_and_numbers_are_looked_at_as_texts_are() -> None:
    card = 4111111111111111
    one = Odd("a", "x", {"by": {MAIL: 1, "n": card}, "at": [1764500000000, True, 10**40]})
    (kept,), warned = screen([one], Odd, PrivacyConfig(scan="warn"), "record")
    assert kept is one and warned.counts == {"email": 1, "card": 1}
    assert [found.field for found in warned.findings] == ["link.by, a name in it", "link.by.n"]
    (found,), _ = screen([one], Odd, PrivacyConfig(scan="redact"), "record")
    assert found.link == {"by": {"[email]": 1, "n": "[card]"}, "at": [1764500000000, True, 10**40]}
    with pytest.raises(InputError, match=r"record 1: names must differ .*: rename them") as refused:
        screen([Odd("a", "x", {MAIL: 1, "ann@harbour.example": 2})], Odd, PrivacyConfig(scan="redact"), "record")
    assert MAIL not in str(refused.value)


def find(text: str) -> list[Span]:
    return [] if text.startswith("[") or text[0] not in "+n" else [Span("x", 0, len(text))]


def table(tmp_path: Path, **privacy: str) -> dict[str, Any]:
    (tmp_path / "cases.jsonl").write_bytes(b"".join(msgspec.json.encode(case) + b"\n" for case in CASES))
    groups = {f"g{number}": ["Speak slowly.", f"Say that {MAIL} is yours."] for number in range(5)}
    (tmp_path / "principles.json").write_bytes(msgspec.json.encode(groups))
    return {
        "cases": {"source": "cases.jsonl"},
        "principles": {"source": "principles.json"},
        "models": {"a": {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}},
        "roles": dict.fromkeys(("patient", "therapist", "judge"), "a"),
        "privacy": privacy,
    }


def test_a_plan_warns_of_cases_and_principles(tmp_path: Path) -> None:
    plan = make_plan(table(tmp_path), tmp_path)
    assert plan.personal.counts == {"email": 6, "phone": 1} and MAIL in plan.cases[1].history
    assert {one.field for one in plan.personal.findings} == {"history", "emotion", "principles"}


def test_a_redacted_run_keeps_what_it_played_and_goes_on_with_or_without_the_file(tmp_path: Path) -> None:
    plan = make_plan(table(tmp_path, scan="redact"), tmp_path)
    files = freeze(plan)
    assert not any(MAIL.encode() in data or PHONE.encode() in data for data in files.values())
    rundir = RunDirectory.create(tmp_path / "run", files)
    assert thaw(rundir, []).cases == plan.cases
    (tmp_path / "cases.jsonl").unlink()
    (tmp_path / "principles.json").unlink()
    again = thaw(rundir, [])
    assert again.cases == plan.cases and again.personal == Screened()
    for change in ("privacy.scan=warn", "privacy.detector=presidio"):
        with pytest.raises(InputError):
            thaw(rundir, [change])
    assert thaw(rundir, ["privacy.egress=allow"]).config.privacy.egress == "allow"


def test_a_blocked_plan_is_refused_beside_every_other_problem(tmp_path: Path) -> None:
    wrong = table(tmp_path, scan="block") | {"roles": {"patient": "a", "therapist": "a"}}
    with pytest.raises(ConfigError) as refused:
        make_plan(wrong, tmp_path)
    said = "\n".join(refused.value.problems)
    assert said.count("privacy.scan") == 7 and "role 'judge'" in said and MAIL not in said


def test_a_run_from_before_there_was_privacy_goes_on(tmp_path: Path) -> None:
    old = table(tmp_path)
    plan = make_plan(old, tmp_path)
    files = freeze(plan)
    stored = {name: inner for name, inner in plan.table.items() if name != "privacy"}
    rundir = RunDirectory.create(tmp_path / "run", files | {"config.toml": tomli_w.dumps(stored).encode()})
    assert thaw(rundir, []).cases == plan.cases
