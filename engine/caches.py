"""Where things that can be made again are kept between runs: converted models, fitted cuts."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return the user's cache directory for Sandplay, made with mode 0700."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "sandplay"
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path
