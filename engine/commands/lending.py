"""Several runs on one set of served models: the crew lent to each, and directories that may be there already."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from actors.crew import LocalCrew
from engine.backend import Backend, Embedder
from engine.planning import Plan, freeze
from engine.rundir import RunDirectory


class Lent:
    """A crew that stays up from run to run: what one run gets of it."""

    def __init__(self, crew: LocalCrew) -> None:
        self._crew = crew

    @property
    def pools(self) -> Mapping[str, Backend]:
        """Model name to backend."""
        return self._crew.pools

    @property
    def embedder(self) -> Embedder | None:
        """The embedder, None when the protocol needs none."""
        return self._crew.embedder

    async def start(self) -> None:
        """Bring up what is not up yet."""
        await self._crew.start()

    async def close(self) -> None:
        """Nothing to do: it is used again."""

    def abort(self) -> None:
        """End every process at once."""
        self._crew.abort()


def open_run(plan: Plan, path: Path) -> RunDirectory:
    """Open a run directory, or make it; one whose making was cut off is made again: nothing was played in it."""
    files = freeze(plan)
    rundir = RunDirectory(path)
    if all((path / name).exists() for name in files):
        return RunDirectory.open(path)
    if path.exists() and not rundir.journal(0).exists():
        shutil.rmtree(path)
    return RunDirectory.create(path, files)
