"""A slot shows what the pool decided, whatever a replica reports."""

from actors import wire
from actors.slot import Slot
from engine.backend import Completion, Failure, ReplicaGauges
from engine.swap import Target

INFO = wire.ReplicaInfo("base/0", [], 1000, 2048, 16, "old", "tokenizer")


def make_slot() -> Slot:
    slot = Slot("base/0", Target("/model"), 0.0)
    slot.live("starting")
    slot.fill(INFO, 1.0)
    return slot


def test_a_slot_lives_through_its_states() -> None:
    slot = Slot("base/0", Target("/model"), 0.0)
    assert (slot.gauges.state, slot.is_up, slot.is_taking) == ("starting", False, False)
    slot.fill(INFO, 1.0)
    assert (slot.gauges.state, slot.is_up, slot.is_taking) == ("ready", True, True)
    assert (slot.gauges.weights, slot.gauges.versions, slot.gauges.slots) == ("old", ("old",), 16)
    slot.hold("cordoned", is_mixing=False)
    assert (slot.gauges.state, slot.is_taking, slot.is_swapping) == ("cordoned", True, False)
    slot.hold("swapping", is_mixing=True)
    assert (slot.gauges.state, slot.is_taking, slot.is_swapping) == ("swapping", True, True)
    slot.live("lost")
    assert (slot.gauges.state, slot.is_taking, slot.versions) == ("lost", False, ())


def test_a_hold_outlasts_a_restart() -> None:
    slot = make_slot()
    slot.hold("cordoned", is_mixing=False)
    slot.live("lost")
    slot.live("starting")
    assert slot.gauges.state == "starting"
    slot.fill(INFO, 2.0)
    assert slot.gauges.state == "cordoned"


def test_what_a_replica_reports_changes_neither_state_nor_versions() -> None:
    slot = make_slot()
    slot.add("new")
    slot.hold("cordoned", is_mixing=True)
    slot.take(wire.Collected([], ReplicaGauges("base/0", running=3, weights="whatever")), 5.0)
    assert slot.gauges == ReplicaGauges(
        "base/0", state="cordoned", running=3, weights="old", versions=("old", "new"), is_mixing=True
    )


def test_new_episodes_get_a_version_once_it_is_held_and_restarts_come_up_on_it() -> None:
    slot = make_slot()
    slot.serve(Target("/r1"), "new")
    assert (slot.weights, slot.version, slot.target) == ("old", "new", Target("/r1"))
    slot.put("new")
    slot.serve(Target("/r1"), "new")
    assert slot.gauges.weights == "new" and slot.gauges.versions == ("new",)
    slot.add("newer")
    slot.drop("new")
    assert slot.gauges.versions == ("newer",)


def test_a_replica_that_stands_still_for_a_swap_is_not_taken_for_hung() -> None:
    slot = make_slot()
    slot.open.add(("e", "p", 0))
    slot.take(wire.Collected([], ReplicaGauges("base/0")), 50.0)
    assert slot.moved_at == 1.0
    slot.hold("swapping", is_mixing=True)
    slot.take(wire.Collected([], ReplicaGauges("base/0")), 60.0)
    assert slot.moved_at == 60.0


def test_only_open_requests_are_completed() -> None:
    slot = make_slot()
    slot.open.add(("e", "p", 1))
    late, mine = (Completion("e", "p", attempt, failure=Failure("timeout", "x")) for attempt in (0, 1))
    assert slot.take(wire.Collected([late, mine], ReplicaGauges("base/0")), 2.0) == [mine]
    assert slot.open == set()
