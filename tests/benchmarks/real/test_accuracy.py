"""Which runs are predicted, and what becomes of replies in them."""

from benchmarks.real.accuracy import HELD_OUT, RECORDED, WORKLOAD, _lengthened
from benchmarks.trace import Call


def test_the_held_out_runs_are_those_promised() -> None:
    slots = WORKLOAD.slots
    assert RECORDED.max_live(slots) == slots
    assert [run.max_live(slots) for run in HELD_OUT] == [slots // 4, 4 * slots, slots, slots, None]
    assert [run.cache for run in HELD_OUT] == ["ample"] * 4 + ["tight"]


def test_replies_become_half_and_twice_as_long_and_end_once() -> None:
    call = Call(episode="e", path="1", role="r", purpose="p", prompt_ids=(1,), completion_ids=(5, 6, 7, 2))
    lengths = {run.name: _lengthened(call, run.lengthen).completion_ids for run in HELD_OUT}
    assert lengths["half as long"] == (5, 6)
    assert lengths["twice as long"] == (5, 6, 7, 5, 6, 7, 2)
    assert lengths["four times live"] == call.completion_ids
