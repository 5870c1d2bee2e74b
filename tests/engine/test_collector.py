"""Whole passes of the cyclic collector: only when dialogues have ended, and settings put back."""

import gc
import weakref

from engine.collector import MIN_ENDED, NEVER, Collector, calm


class Cyclic:
    def __init__(self) -> None:
        self.me = self


def test_settings_are_put_back_in_whatever_order_runs_end() -> None:
    before = gc.get_threshold()
    one, two = calm(), calm()
    one.__enter__()
    two.__enter__()
    assert gc.get_threshold()[2] == NEVER
    one.__exit__(None, None, None)
    assert gc.get_threshold()[2] == NEVER
    two.__exit__(None, None, None)
    assert gc.get_threshold() == before


def test_cycles_are_found_once_as_many_have_ended_as_live() -> None:
    collector = Collector()
    with calm():
        lost = weakref.ref(Cyclic())
        gc.collect(1)  # what is found young needs no whole pass
        old = Cyclic()
        gc.collect()
        kept = weakref.ref(old)
        del old
        for _ in range(MIN_ENDED):
            collector.ended(MIN_ENDED + 1)
        assert lost() is None and kept() is not None
        collector.ended(MIN_ENDED + 1)
        assert kept() is None
