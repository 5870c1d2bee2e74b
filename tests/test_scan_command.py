"""Personal data on its way through the commands: warned of, replaced in what is sent and kept, refused, found again."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow
import pyarrow.parquet

from tests.engine.protocols.driving import make_case
from tests.eval.quality.records import keep_run, make_record
from tests.running import run, run_json, start, write_config
from tests.stub import Stub, serve
from tests.test_dev_exam import plan as plan_rounds

MAIL, PHONE = "nora@harbour.example", "+44 20 7946 0958"


def write(directory: Path, stub: Stub) -> Path:
    cases = [make_case(), make_case(id="c2", history=f"Nora can be reached at {MAIL} or {PHONE}.")]
    (directory / "cases.jsonl").write_bytes(b"".join(msgspec.json.encode(case) + b"\n" for case in cases))
    return write_config(directory, stub.base_url, '[cases]\nsource = "cases.jsonl"\n')


def holders(directory: Path, secret: str) -> list[str]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sorted(path.name for path in files if secret.encode() in path.read_bytes())


def test_a_redacted_run_sends_and_keeps_nothing_and_a_scan_finds_nothing(tmp_path: Path) -> None:
    with serve() as stub:
        config = write(tmp_path, stub)
        run("generate", config, "privacy.scan=redact", "--out", tmp_path / "run")
        sent = json.dumps([call.body for call in stub.calls])
        assert "[email] or [phone]" in sent and MAIL not in sent and PHONE not in sent
        assert holders(tmp_path / "run", MAIL) == [] == holders(tmp_path / "run", PHONE)
        assert "nothing found" in run("scan", tmp_path / "run")
        run_json("judge", tmp_path / "run", "--out", tmp_path / "judged")


def test_a_warned_run_plays_and_a_scan_says_where_without_values(tmp_path: Path) -> None:
    with serve(lambda call: f"Write to {MAIL}." if call.purpose == "patient_turn" else "1") as stub:
        _, warned = start("generate", write(tmp_path, stub), "--out", tmp_path / "run").communicate(timeout=120)
        assert "warning: what is read in holds personal data or secrets (1 email, 1 phone)" in warned
        assert "case 2 (c2), history: email no... (20 characters)" in warned and MAIL not in warned
    ((name, one),) = scan(tmp_path / "run", "--places", "2").items()
    assert name.endswith("run") and one["counts"]["phone"] == 1 and one["counts"]["email"] > 2
    assert one["places"][0] == "inputs/cases.jsonl:2, history: email no... (20 characters)" and len(one["places"]) == 2
    assert MAIL not in json.dumps(one)


def scan(*arguments: str | Path) -> dict[str, Any]:
    """Scan what holds something; return what is said of each source."""
    process = start("scan", *arguments, "--json")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    found: dict[str, Any] = json.loads(out)["sources"]
    return found


def test_every_run_of_rounds_and_their_items_are_scanned_and_none_hides_another(tmp_path: Path) -> None:
    def keep(place: Path, said: str) -> None:
        keep_run(place, [make_record(talk=[("patient", said)])])

    rounds = tmp_path / "rounds"
    keep(rounds / "round-0", "Nothing.")
    keep(rounds / "round-0" / "exam", f"Write to {MAIL}.")
    keep(rounds / "held-out", f"Call {PHONE}.")
    (rounds / "inputs").mkdir()
    (rounds / "inputs" / "items.jsonl").write_text(json.dumps({"question": f"Whose is {MAIL}?"}) + "\n", "utf-8")
    found = {name.removeprefix(str(tmp_path)): one["counts"] for name, one in scan(rounds).items()}
    assert found == {
        "/rounds": {"email": 1},
        "/rounds/round-0": {},
        "/rounds/held-out": {"phone": 1},
        "/rounds/round-0/exam": {"email": 1},
    }
    keep(tmp_path / "a" / "run", f"Write to {MAIL}.")
    keep(tmp_path / "b" / "run", "Nothing.")
    assert [one["counts"] for one in scan(tmp_path / "a" / "run", tmp_path / "b" / "run").values()] == [
        {"email": 1},
        {},
    ]
    assert "which holds none" in run("scan", tmp_path / "a" / "run" / "journals", expect=2)


def test_items_of_the_exam_between_rounds_are_kept_replaced(tmp_path: Path) -> None:
    asked = ("privacy.scan=redact", f'exam.tasks.forms.path="{tmp_path}/own.jsonl"')
    plan_rounds(tmp_path)  # writes the items
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text("utf-8").splitlines()]
    rows[3]["question"] += f" Ask {MAIL}."
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    plan, dev = plan_rounds(tmp_path, *asked)
    assert plan.personal.is_redacted and plan.personal.counts["email"] >= 1
    kept = b"".join(dev.files().values())
    assert b"Ask [email]." in kept and MAIL.encode() not in kept
    assert dev.plan(plan.run, plan.model, tmp_path).personal.findings == ()


def test_a_blocked_run_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with serve() as stub:
        config = write(tmp_path, stub)
        said = run("generate", config, "privacy.scan=block", "--out", tmp_path / "run", expect=2)
        assert said.count("must hold no personal data or secret") == 2 and MAIL not in said
        said = run("generate", config, "privacy.detector=presidio", "--out", tmp_path / "run", expect=2)
        assert "pip install -e '.[privacy]'" in said or "spacy download" in said
        assert not stub.calls and not (tmp_path / "run").exists()


def test_files_of_any_form_are_scanned(tmp_path: Path) -> None:
    rows = [{"id": "a", "said": [f"call {PHONE}"]}, {"id": "b", "said": ["nothing"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    (tmp_path / "b.json").write_text(json.dumps(rows), "utf-8")
    (tmp_path / "c.csv").write_text(f"id,said\nx,{MAIL}\n", "utf-8")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "d.parquet")
    found = scan(*sorted(tmp_path.iterdir()))
    assert [one["counts"] for one in found.values()] == [{"phone": 1}, {"phone": 1}, {"email": 1}, {"phone": 1}]
    (tmp_path / "e.jsonl").write_text("{", "utf-8")
    assert "e.jsonl:1: must be a JSON value" in run("scan", tmp_path / "e.jsonl", expect=2)
    assert run("scan", tmp_path / "gone", tmp_path / "no", expect=2).count("sandplay:") == 2
    (tmp_path / "f.parquet").write_bytes(b"no")
    assert "must be a Parquet file" in run("scan", tmp_path / "f.parquet", expect=2)
