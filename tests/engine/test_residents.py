"""Homes of episodes: counted where the latest request went, gone with the end, waited for without polling."""

import asyncio

from engine.residents import Residents


def test_an_episode_lives_where_its_latest_request_went() -> None:
    residents = Residents()
    residents.settle("e", "base/0", "old")
    residents.settle("e", "base/0", "old")
    assert (residents.num_on("base/0"), residents.num_on("base/0", "old")) == (1, 1)
    residents.settle("e", "base/0", "new")
    assert (residents.num_on("base/0", "old"), residents.num_on("base/0", "new")) == (0, 1)
    residents.settle("e", "base/1", "new")
    assert (residents.num_on("base/0"), residents.num_on("base/1")) == (0, 1)
    residents.forget("e")
    residents.forget("e")
    assert residents.num_on("base/1") == 0


async def test_whoever_waits_is_woken_by_the_last_one_that_leaves_and_by_a_poke() -> None:
    residents, is_up = Residents(), False
    for episode in "ab":
        residents.settle(episode, "base/0", "old")
    empty = asyncio.ensure_future(residents.until(lambda: not residents.num_on("base/0")))
    both = asyncio.ensure_future(residents.until(lambda: is_up and not residents.num_on("base/0")))
    await asyncio.sleep(0)
    residents.forget("a")
    await asyncio.sleep(0)
    assert not empty.done()
    residents.settle("b", "base/1", "old")
    await empty
    assert not both.done()
    is_up = True
    residents.poke()
    await both


async def test_a_wait_that_is_given_up_leaves_no_trace() -> None:
    residents = Residents()
    residents.settle("a", "base/0", "old")
    waiting = asyncio.ensure_future(residents.until(lambda: not residents.num_on("base/0")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    residents.forget("a")
    await residents.until(lambda: not residents.num_on("base/0"))
