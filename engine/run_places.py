"""Where a run lies that a command is given: in a directory, or at a target, from which it is brought to be read.

Imports late: every command line is parsed through it.
"""

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Final

READ: Final = "A run directory, or the URI of a run at a target."
"""The help of an argument that takes either."""


def run_to_read(text: str) -> Path:
    """Return the directory of a run that is to be read, which is a copy until the process ends where a URI is given.

    Raises InputError when it cannot be brought.
    """
    from engine.targets import is_uri

    if not is_uri(text):
        return Path(text)
    from urllib.parse import unquote, urlsplit

    from engine.mirror import bring_run

    scratch = Path(tempfile.mkdtemp(prefix="sandplay-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    name = Path(unquote(urlsplit(text).path)).name or "run"
    try:
        return bring_run(text, scratch / name).path
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def run_to_write(text: str) -> Path:
    """Return the directory of a run that is to be written to. Raises InputError for a URI."""
    from engine.errors import InputError
    from engine.targets import is_uri

    if is_uri(text):
        place = text.partition("?")[0]
        raise InputError(
            f"a run must lie in a directory to be gone on with, got {place}: bring it with"
            f" sandplay fetch-run {place} DIR first"
        )
    return Path(text)
