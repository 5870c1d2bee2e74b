"""A slot whose node is gone: it waits for room as long as others of its pool work, and is given up after them."""

from pathlib import Path

import pytest

from actors.fleet import Fleet
from actors.launch import NoRoom
from actors.processes import ProcessTable
from actors.slot import Slot
from actors.spec import ModelSpec, RaySpec
from engine.errors import BackendDown


class Homeless(Fleet):
    """A pool whose first replica is lost and finds no room, a number of times; nothing is started."""

    def __init__(self, path: Path, num_refused: int) -> None:
        table = ProcessTable(path / "processes.json")
        super().__init__(ModelSpec(name="m", path="/m", replicas=2, max_restarts=1), RaySpec(), table, lambda _: None)
        self.first, self.second = self._slots.values()
        self.num_refused = num_refused
        self.num_asked = 0

    async def _watch(self, slot: Slot) -> str:
        if self.num_asked > self.num_refused:
            raise EOFError  # it is up again
        return "its node went"

    async def _bring_up(self, slot: Slot) -> None:
        self.num_asked += 1
        if self.num_asked <= self.num_refused:
            raise NoRoom("m/0 must find a place within 1 s, got none")


async def test_it_waits_while_another_works_and_spends_no_restart(tmp_path: Path) -> None:
    fleet = Homeless(tmp_path, num_refused=5)
    fleet.second.live("ready")
    with pytest.raises(EOFError):
        await fleet._keep(fleet.first)
    assert fleet.num_asked == 6 and fleet.first.restarts == 1 and not fleet.first.is_given_up


async def test_with_nobody_left_the_pool_is_down_and_says_what_is_missing(tmp_path: Path) -> None:
    fleet = Homeless(tmp_path, num_refused=5)
    fleet.second.live("lost")
    fleet.second.is_given_up = True
    await fleet._keep(fleet.first)
    assert fleet.num_asked == 1 and fleet.first.is_given_up
    with pytest.raises(BackendDown, match="m has no replica left; the last one: m/0 must find a place within 1 s"):
        while True:
            await fleet.collect()
