"""Factories for the tests of what is kept."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from engine.corpus_parts import Extent, Part, form_part, keep_part
from engine.journal import Journal
from engine.record import AttemptRecord, EpisodeKey, EpisodeRecord, NodeRecord, Status, StepRecord
from engine.rundir import RunDirectory
from engine.steps import Reply, Sampling, Usage
from engine.token_ids import pack_ids

HASH = b"0123456789abcdef"


def make_run(path: Path) -> RunDirectory:
    return RunDirectory.create(path / "run", {"config.toml": b""})


def make_reply(text: str = "I sleep badly.", num_tokens: int = 4) -> Reply:
    return Reply(text, token_ids=pack_ids(range(num_tokens)), usage=Usage(10, num_tokens, 5), model="m", weights="w1")


def make_record(
    key: EpisodeKey, num_steps: int = 2, status: Status = "completed", reply: Reply | None = None
) -> EpisodeRecord:
    failed = (AttemptRecord(0, "timeout", "no answer in 600 s"),)
    steps = tuple(
        StepRecord(
            path=f"turn/{n}",
            kind="generate",
            hash=HASH.hex(),
            role="patient",
            view=0,
            sampling=Sampling(64),
            reply=reply or make_reply(),
            attempts=failed if n == 0 else (),
        )
        for n in range(num_steps)
    )
    nodes = (NodeRecord(-1, "system", "You are a patient."),)
    return EpisodeRecord(
        key=key, seed=7, protocol="counseling", status=status, steps=steps, nodes=nodes, case='{"a": 1}'
    )


def play(journal: Journal, name: str, num_steps: int = 2, status: Status = "completed") -> EpisodeKey:
    """Record one whole episode."""
    key = EpisodeKey(name)
    journal.admit(key, 7, 1.5)
    for n in range(num_steps):
        journal.reply(name + ".0", f"turn/{n}", HASH, make_reply())
    journal.end(make_record(key, num_steps, status))
    return key


def put_part(run: RunDirectory, extent: Extent, records: Sequence[EpisodeRecord]) -> Part:
    """Write records as the next part, which no manifest names yet."""
    return keep_part(run, *form_part(extent.next_file, records))


async def crash(journal: Journal, *others: Path) -> None:
    """Leave the run, and directories beside it, as a kill would once all that was recorded is durable."""
    await journal.flush()
    places = (journal.rundir.path, *others)
    for place in places:
        shutil.copytree(place, place.with_name(place.name + ".left"), ignore=shutil.ignore_patterns("*-shm", "copy.db"))
    await journal.close()
    for place in places:
        shutil.rmtree(place)
        place.with_name(place.name + ".left").rename(place)


def disk_size(run: RunDirectory) -> int:
    """Bytes of all databases with their WALs."""
    return sum(p.stat().st_size for p in run.journals.iterdir())
