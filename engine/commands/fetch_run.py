"""`sandplay fetch-run`: a run brought from its target into a directory."""

from pathlib import Path
from typing import Annotated

import typer


def fetch_run(
    uri: Annotated[str, typer.Argument(metavar="URI", help="A run at a target, as s3://bucket/prefix/run.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The run directory to make.")],
) -> None:
    """Bring a run from its target, to read it here or to go on with it."""
    from engine.mirror import bring_run

    print(bring_run(uri, directory).path)
