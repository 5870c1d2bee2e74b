"""The secret that Ray asks for: one of our own for a Ray that is started here, the user's for one that is joined.

Who reaches an unguarded Ray runs code as its user, also from another account of the same machine. Our own token lies in
a file that only this user reads, as long as that Ray runs. Whatever the user set is left alone. No token is ever said,
logged or put into a task's environment: processes know the path of the file.
"""

import atexit
import contextlib
import importlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from engine.errors import BackendDown

MODE: Final = "RAY_AUTH_MODE"
TOKEN: Final = "RAY_AUTH_TOKEN"
TOKEN_PATH: Final = "RAY_AUTH_TOKEN_PATH"
_HOME_TOKEN: Final = "~/.ray/auth_token"


class OwnToken:
    """The secret of the Ray that this process starts: lent before it starts, taken back once it is gone."""

    def __init__(self) -> None:
        self._before: dict[str, str | None] = {}
        self._directory = ""

    def lend(self) -> None:
        """Let what is started from now on share a new secret, unless the user chose one, or none."""
        chose_other = os.environ.get(MODE, "token").lower() != "token"
        if self._directory or chose_other or TOKEN in os.environ or TOKEN_PATH in os.environ:
            return
        self._directory = tempfile.mkdtemp(prefix="sandplay-")
        atexit.register(shutil.rmtree, self._directory, ignore_errors=True)  # a hasty end takes nothing back
        path = Path(self._directory) / "ray-token"
        path.touch(0o600)
        path.write_text(secrets.token_hex(32), "ascii")
        self._before = {name: os.environ.get(name) for name in (MODE, TOKEN_PATH)}
        os.environ |= {MODE: "token", TOKEN_PATH: str(path)}
        _read_again()

    def take_back(self) -> None:
        """Forget the secret, and leave the environment as it was."""
        if not self._directory:
            return
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = ""
        _read_again()


def _read_again() -> None:
    # Ray reads mode and token once per process, the mode already when it is imported.
    with contextlib.suppress(ImportError, AttributeError):  # a Ray that keeps them elsewhere has no token of ours
        raylet: Any = importlib.import_module("ray._raylet")
        raylet.Config.initialize("")
        raylet.AuthenticationTokenLoader.instance().reset_cache()


def check_token(address: str) -> bool:
    """Return whether this process shows a token to the Ray at HOST:PORT, once that Ray has let it in.

    Raises `BackendDown` when the token is refused, and when what listens there is no Ray: by itself, joining tries on
    for minutes without saying why.
    """
    try:
        from ray.exceptions import AuthenticationError, RpcError

        ask = importlib.import_module("ray._raylet").GcsClient
    except (ImportError, AttributeError):  # a Ray that keeps these elsewhere says it itself, if late
        return True
    shown = _what_is_shown()
    if _shows_token() and shown.startswith("none"):
        raise _refused(address, shown)  # Ray would end the process
    try:
        ask(address=address)
    except AuthenticationError:
        raise _refused(address, shown) from None
    except RpcError as error:
        rule = f"the port of a Ray head must answer at {address}, got no word of Ray"
        raise BackendDown(f"{rule} ({error}): set ray.address to the --port of its head (6379 by default)") from None
    return _shows_token()


def _refused(address: str, shown: str) -> BackendDown:
    rule = f"Ray at {address} must be shown the token that its nodes were started with, got {shown}"
    return BackendDown(f"{rule}: set {MODE}=token, and {TOKEN_PATH} to a file that holds it")


def _shows_token() -> bool:
    return os.environ.get(MODE, "").lower() == "token"


def _what_is_shown() -> str:
    """Name the place that the token comes from, never the token."""
    if not _shows_token():
        return f"none ({MODE} is {os.environ[MODE]!r})" if MODE in os.environ else f"none ({MODE} is unset)"
    if TOKEN in os.environ:
        return f"another one (that of {TOKEN})"
    if TOKEN_PATH in os.environ:
        path = os.environ[TOKEN_PATH]
        return f"another one (that in {path})" if _has_text(path) else f"none ({path} is empty or cannot be read)"
    return f"another one (that in {_HOME_TOKEN})" if _has_text(_HOME_TOKEN) else "none"


def _has_text(path: str) -> bool:
    try:
        return bool(Path(path).expanduser().read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError):
        return False
