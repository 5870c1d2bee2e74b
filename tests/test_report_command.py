"""Every run leaves a page, interrupted or not, and none fails for it; `sandplay report` writes it again."""

import os
import signal
import time
from pathlib import Path

import pytest

from engine.commands.report import leave_report
from engine.show import ITSELF
from tests.engine.report.test_writing import make_record, make_run
from tests.pages import read_page
from tests.running import run, start, stub_process, write_config

SOME = ('cases.source="sampled"', "scheduler.metrics_interval_s=0.1")


def test_a_run_leaves_a_page_and_the_command_writes_it_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        said = run("generate", write_config(tmp_path, stub.url), *SOME, "cases.limit=6", "--out", out)
    page = out / "report.html"
    assert str(page) in said and page.stat().st_mode & 0o777 == 0o600
    read = read_page(page.read_text("utf-8"))
    assert {"finished", "mental_arena", "6 of 6 ended: 6 completed"} <= set(read.texts["td"])
    assert {"Tokens out by role"} <= set(read.texts["figcaption"])
    assert "decoder rounds" in read.texts["td"] and "Symptom decoder" in read.texts["h3"]
    page.unlink()
    assert run("report", out, "--episodes", "0").strip() == str(page)
    assert "6 of 6 ended: 6 completed" in read_page(page.read_text("utf-8")).texts["td"]


def test_a_run_that_is_played_can_be_looked_at_and_leaves_a_page_when_it_is_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with stub_process(tmp_path, score=2, embedding="orthogonal") as stub:
        slow = ("cases.limit=2000", "scheduler.max_live=8", "scheduler.seal_every=4")
        process = start("generate", write_config(tmp_path, stub.url), *SOME, *slow, "--out", out)
        deadline = time.monotonic() + 60
        while stub.num_lines < 2500 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        run("report", out)
        looked_at = set(read_page((out / "report.html").read_text("utf-8")).texts["td"])
        assert any(one.startswith(f"held by process {process.pid} on ") for one in looked_at)
        (out / "report.html").unlink()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    left = read_page((out / "report.html").read_text("utf-8")).texts["td"]
    assert f"not finished; go on with: sandplay resume {out}" in left
    assert any(" of 2,000 ended: " in one for one in left)


def test_a_page_that_cannot_be_written_is_said_and_fails_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rundir = make_run(tmp_path, make_record(0))
    rundir.report.mkdir()
    leave_report(rundir, ITSELF, state="finished", size=10)
    said = capsys.readouterr()
    assert said.err.startswith("report.html is not written: IsADirectoryError: ") and said.err.count("\n") == 1
    assert not said.out and not list(rundir.path.glob("*.tmp"))


def test_a_protocol_that_breaks_its_page_does_not_break_its_run(tmp_path: Path) -> None:
    protocol = tmp_path / "mine.py"
    protocol.write_text(
        "import msgspec\n"
        "from engine.protocols.counseling import PROTOCOL\n"
        "def broken(outcome):\n    raise ZeroDivisionError('\\x1b[31mno')\n"
        "mine = msgspec.structs.replace(PROTOCOL, histograms=broken)\n"
    )
    out = tmp_path / "run"
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        named = config.read_text().replace('name = "mental_arena"\nsimilarity = 0.9', f'name = "{protocol}:mine"')
        config.write_text(named.replace('judge = "base"\n', ""))
        process = start("generate", config, "cases.limit=2", "--out", out)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "histograms() failed, what it says is left out: ZeroDivisionError: no\n" in said and "\x1b" not in said
    assert (out / "report.html").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "must be a run directory" in run("report", tmp_path, expect=2)
    (tmp_path / "rounds.toml").write_text("")
    assert "name a run in it" in run("report", tmp_path, expect=2)
    assert os.listdir(tmp_path) == ["rounds.toml"]
