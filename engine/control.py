"""The control socket of a run: one line of JSON asks its driver for something while it plays.

    -> {"command": "swap", "checkpoint": "/...", "policy": "mix", "model": "base"}
    <- {"say": "base/0: serves 3f2a..."}            any number of these
    <- {"result": {...}} or {"error": {"kind": "InputError", "problems": ["..."]}}

The socket is private to its owner and lies in the run directory; one that a killed driver left behind is replaced. What
was asked for goes on when whoever asked is gone. Knows nothing of what the commands do.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec

from engine.api_keys import hide
from engine.errors import InputError, RunError, SandplayError

MAX_LINE: Final = 1 << 16
MAX_ADDRESS: Final = 107
"""Bytes that the kernel takes as a socket's address, without the final zero."""
ASK_WITHIN_S: Final = 10.0

Say: TypeAlias = Callable[[str], None]
Command: TypeAlias = Callable[[dict[str, Any], Say], Awaitable[dict[str, Any]]]


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Give an address of a socket that the kernel takes, however long the path is."""
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class Control:
    """The driver's side: `open` it on the running loop, `close` it there. The caller holds the directory's lock."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. Raises RunError where no socket can be made."""
        try:
            self._path.unlink(missing_ok=True)
            with address_of(self._path) as address:
                listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                listening.setblocking(False)
                listening.bind(address)
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._accept, sock=listening, limit=MAX_LINE)
        except OSError as error:
            raise RunError(f"a run directory must take a socket, got {error}: choose another file system") from error

    async def close(self) -> None:
        """Stop listening, give up what is being done, remove the socket. Safe to call twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except asyncio.CancelledError:
            _send(writer, {"error": {"kind": "RunError", "problems": ["the run has ended before this was done"]}})
            raise
        finally:
            self._tasks.discard(task)
            with suppress(OSError):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = {"result": await self._obey(reader, lambda text: _send(writer, {"say": text}))}
        except InputError as refused:
            answer = {"error": {"kind": type(refused).__name__, "problems": list(refused.problems)}}
        except SandplayError as failed:
            answer = {"error": {"kind": type(failed).__name__, "problems": [str(failed)]}}
        except Exception as bug:  # noqa: BLE001  whoever asked is told, and the run goes on
            answer = {"error": {"kind": "RunError", "problems": [hide(f"{type(bug).__name__}: {bug}")]}}
        _send(writer, answer)
        with suppress(OSError):
            await writer.drain()

    async def _obey(self, reader: asyncio.StreamReader, say: Say) -> dict[str, Any]:
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                line = await reader.readline()
            asked: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        except (TimeoutError, ValueError, OSError, msgspec.MsgspecError):
            raise InputError(f"a request must be one line of JSON of at most {MAX_LINE} bytes, got none") from None
        command = self._commands.get(str(asked.get("command")))
        if command is None:
            known = ", ".join(self._commands)
            raise InputError(f"command must be one of {known}, got {str(asked.get('command'))[:80]!r}")
        return await command(asked, say)


def _send(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(msgspec.json.encode(answer) + b"\n")


def ask(path: Path, command: dict[str, Any], say: Say) -> dict[str, Any]:
    """Ask the driver that listens there; blocks until the result. `say` gets the lines on the way.

    Raises InputError when no driver listens or it refuses, RunError when it fails or dies.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            with address_of(path) as address:
                connection.connect(address)
        except OSError:
            problem = f"a driver must be playing {path.parent}, got none that listens: start it with sandplay resume"
            raise InputError(f"{problem} {path.parent}") from None
        try:
            connection.sendall(msgspec.json.encode(command) + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = msgspec.json.decode(line, type=dict[str, Any])
                    if "say" in answer:
                        say(str(answer["say"]))
                    else:
                        return _result(answer)
        except (OSError, msgspec.MsgspecError) as error:
            raise RunError(f"the driver of {path.parent} must answer, got {error}") from None
    raise RunError(f"the driver of {path.parent} went away before it answered")


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if error is None:
        result: dict[str, Any] = answer["result"]
        return result
    problems = [str(problem) for problem in error["problems"]]
    if str(error["kind"]) in ("InputError", "CheckpointError"):
        raise InputError(problems)
    raise RunError("\n".join(problems))
