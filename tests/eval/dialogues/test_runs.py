"""Reading runs: latest tries, means over repeats."""

from pathlib import Path

import msgspec
import pytest

from engine.errors import InputError
from engine.record import EpisodeKey
from eval.dialogues.runs import by_case, read_run
from eval.quality.outcomes import tidied
from tests.eval.dialogues.making import figures, make_run
from tests.eval.quality.records import keep_run, make_failed, make_record


def test_of_several_tries_the_latest_counts_and_failures_are_counted(tmp_path: Path) -> None:
    again = msgspec.structs.replace(make_record(), key=EpisodeKey("tilda", 0, 1))
    lost = msgspec.structs.replace(make_failed("tilda"), key=EpisodeKey("tilda", 1))
    keep_run(tmp_path / "talks", [make_failed("tilda"), lost, again])
    run = read_run(tmp_path / "talks", tidied)
    assert (run.name, run.protocol, run.num_failed) == ("talks", "counseling", 1)
    assert [one.key for one in run.episodes] == [EpisodeKey("tilda", 0, 1)]
    assert run.turns == (2, 2)


def test_a_run_without_a_finished_dialogue_is_refused(tmp_path: Path) -> None:
    keep_run(tmp_path / "talks", [make_failed("tilda")])
    with pytest.raises(InputError, match="must hold a finished dialogue of a case, got none: `sandplay resume"):
        read_run(tmp_path / "talks", tidied)


def test_repeats_are_averaged_and_what_one_lacks_is_left_to_the_others() -> None:
    run = make_run(
        "r",
        figures("b", [0.0, 0.2]),
        figures("a", [0.1, 0.3, 0.5], is_named=True, num_guided=2, similarities={"x": 0.4, "y": 0.9}),
        figures("a", [0.3], 1, is_named=False, num_guided=0, similarities={"x": 0.6}),
    )
    found = by_case(run)
    assert list(found) == ["a", "b"]
    assert found["a"].curve == pytest.approx((0.2, 0.3, 0.4))  # the second has ended at 0.3
    assert found["b"].curve == (0.0, 0.2, 0.2)
    assert (found["a"].label, found["a"].guided, found["a"].exchanges) == (0.5, 1.0, 1.0)
    assert found["a"].similarities == {"x": 0.5, "y": 0.9}
    assert (found["b"].label, found["b"].guided, found["b"].similarities) == (None, None, {})
