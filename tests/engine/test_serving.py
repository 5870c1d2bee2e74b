"""What a run serves, and its swaps: durable in this order, and a swap that was cut short leaves the one before."""

from pathlib import Path

import pytest

from engine.errors import InputError
from engine.rundir import RunDirectory
from engine.serving import SwapLog, read_serving
from engine.swap import SwapFailure, SwapReport, Target

R1 = Path("/checkpoints/r1")


@pytest.fixture
def rundir(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run")


def make_report(failure: SwapFailure | None = None) -> SwapReport:
    return SwapReport(
        policy="mix", target=Target("r1"), before="old", after="old" if failure else "new", elapsed_s=1.0,
        failure=failure,
    )  # fmt: skip


def swap_to(log: SwapLog, checkpoint: Path | None, report: SwapReport) -> None:
    log.end(log.begin("base", checkpoint, "mix"), "base", checkpoint, report)


def test_what_was_swapped_in_is_served_from_then_on_and_the_model_itself_after_that(rundir: RunDirectory) -> None:
    log = SwapLog(rundir)
    assert read_serving(rundir) == {}
    swap_to(log, R1, make_report())
    assert read_serving(rundir) == {"base": R1}
    swap_to(log, None, make_report())
    assert read_serving(rundir) == {}
    assert [(line["number"], line["event"]) for line in log.lines()] == [
        (1, "begin"), (1, "end"), (2, "begin"), (2, "end"),
    ]  # fmt: skip
    assert log.lines()[1]["report"]["after"] == "new" and log.lines()[1]["checkpoint"] == str(R1)
    assert {path.stat().st_mode & 0o777 for path in (rundir.serving, rundir.swaps)} == {0o600}


def test_a_swap_that_failed_changes_nothing(rundir: RunDirectory) -> None:
    log = SwapLog(rundir)
    swap_to(log, R1, make_report(SwapFailure("canary", "makes no token", "base/1")))
    assert read_serving(rundir) == {}
    assert log.lines()[-1]["report"]["failure"] == {"kind": "canary", "message": "makes no token", "replica": "base/1"}


def test_a_swap_that_was_cut_short_is_named_once_and_the_one_before_is_served(rundir: RunDirectory) -> None:
    log = SwapLog(rundir)
    swap_to(log, R1, make_report())
    log.begin("base", Path("/checkpoints/r2"), "drain")
    with rundir.swaps.open("ab") as file:
        file.write(b'{"event": "en')
    again = SwapLog(rundir)
    [said] = again.abandoned()
    assert "/checkpoints/r2 was cut short: the version before it is served" in said
    assert again.abandoned() == [] and read_serving(rundir) == {"base": R1}
    assert again.lines()[-1]["event"] == "abandoned"
    assert again.begin("base", None, "mix") == 3


def test_a_swap_that_was_given_up_is_no_longer_open(rundir: RunDirectory) -> None:
    log = SwapLog(rundir)
    log.give_up(log.begin("base", R1, "mix"), "base", R1, "the run ended")
    assert log.abandoned() == [] and log.lines()[-1]["reason"] == "the run ended"


def test_a_damaged_file_is_named(rundir: RunDirectory) -> None:
    rundir.serving.write_text("{")
    with pytest.raises(InputError, match=r"serving.json must name the checkpoints"):
        read_serving(rundir)
