"""What live dialogues cost: memory over idle, and the time to take them up again after a stop.

    python -m benchmarks.live memory [--live N] [--replies N] [--ids]
    python -m benchmarks.live resume [--live N] [--replies N]

Counseling sessions on instant models, each standing before an answer that does not come. Memory is resident memory of
a fresh process, after minus before, with journal off; a transcript of 20 replies of 115 tokens (460 characters) is
2.3k tokens. One JSON object per line.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from benchmarks.instant import InstantBackend, talker
from benchmarks.scheduler import make_bench_plan, make_scheduler
from engine.backend import Request
from engine.journal import Journal
from engine.journal_off import JournalOff
from engine.planning import Plan
from engine.rundir import RunDirectory

TOKENS_PER_REPLY: Final = 115
WORDS_PER_REPLY: Final = 104
"""Words of the instant models that make about 460 characters."""


class MemoryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Resident memory in bytes: of the idle process, and with `live` dialogues of `replies` answers each."""

    live: int
    replies: int
    num_ids: int
    idle: int
    loaded: int

    @property
    def over_idle(self) -> int:
        """What the dialogues take, in bytes."""
        return self.loaded - self.idle


class ResumeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from opening the journal until every live dialogue has asked again; `replies` were stored for each."""

    live: int
    replies: int
    resume_s: float


def measure_memory(live: int = 100_000, *, replies: int = 0, num_ids: int = 0) -> MemoryFigures:
    """Measure in a fresh process. `num_ids` sampled ids come with each reply."""
    command = [sys.executable, "-m", "benchmarks.live", "memory-here", f"--live={live}"]
    command += [f"--replies={replies}", f"--ids={num_ids}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=MemoryFigures)


def measure_resume(live: int = 10_000, *, replies: int = 20) -> ResumeFigures:
    """Play to `replies` answers each, stop, and measure how long a new scheduler takes to stand there again."""
    return uvloop.run(_measure_resume(make_live_plan(live), live, replies))


def make_live_plan(live: int) -> Plan:
    """Return a plan of sessions that are long enough to be held at any reply."""
    return make_bench_plan("counseling", live, max_turns=1000)


def held_after(replies: int) -> Callable[[Request], bool]:
    """Return whether a request comes after that many replies of its dialogue (therapist and patient in turn)."""
    exchange, is_patient = divmod(replies, 2)
    path = f"{exchange + 1}/{'patient' if is_patient else 'therapist'}"
    return lambda request: request.path == path


async def _measure_memory(live: int, replies: int, num_ids: int) -> MemoryFigures:
    plan = make_live_plan(live)
    await _stand(plan, 20, replies, num_ids, JournalOff())  # what is imported, compiled or cached is not the dialogues'
    idle = resident()
    loaded = await _stand(plan, live, replies, num_ids, JournalOff())
    return MemoryFigures(live=live, replies=replies, num_ids=num_ids, idle=idle, loaded=loaded)


async def _stand(plan: Plan, live: int, replies: int, num_ids: int, journal: Journal | JournalOff) -> int:
    """Play until every dialogue is held; return resident memory then, in bytes."""
    backend = InstantBackend(talker(WORDS_PER_REPLY), holds=held_after(replies), num_ids=num_ids)
    scheduler = make_scheduler(plan, live, journal, backend, live)
    running = asyncio.ensure_future(scheduler.run())
    while backend.num_held < live:
        done, _ = await asyncio.wait((running,), timeout=0.02)
        assert not done, "a held dialogue must stay live"
    loaded = resident()
    scheduler.stop()
    await running
    return loaded


async def _measure_resume(plan: Plan, live: int, replies: int) -> ResumeFigures:
    with tempfile.TemporaryDirectory() as scratch:
        rundir = RunDirectory.create(Path(scratch) / "run")
        journal = Journal.open(rundir)
        await _stand(plan, live, replies, 0, journal)
        await journal.close()
        begun = time.perf_counter()
        journal = Journal.open(rundir)
        await _stand(plan, live, replies, 0, journal)
        resume_s = time.perf_counter() - begun
        await journal.close()
    return ResumeFigures(live=live, replies=replies, resume_s=resume_s)


def resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", choices=("memory", "memory-here", "resume"))
    parser.add_argument("--live", type=int, default=10_000)
    parser.add_argument("--replies", type=int, default=0)
    parser.add_argument("--ids", type=int, default=0, help=f"sampled ids per reply; {TOKENS_PER_REPLY} is true to size")
    options = parser.parse_args()
    if options.figure == "memory-here":
        figures = uvloop.run(_measure_memory(options.live, options.replies, options.ids))
        print(msgspec.json.encode(figures).decode())
    elif options.figure == "memory":
        memory = measure_memory(options.live, replies=options.replies, num_ids=options.ids)
        print(json.dumps({**msgspec.structs.asdict(memory), "over_idle": memory.over_idle}))
    else:
        print(msgspec.json.encode(measure_resume(options.live, replies=options.replies)).decode())


if __name__ == "__main__":
    main()
