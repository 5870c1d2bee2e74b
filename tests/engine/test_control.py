"""The control socket: private, one line of JSON, progress and a result; what goes wrong is told to whoever asked."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from engine.control import Control, Say, ask
from engine.errors import InputError, RunError


async def echo(asked: dict[str, Any], say: Say) -> dict[str, Any]:
    for number in range(3):
        say(f"line {number}")
    return {"asked": asked}


async def fail(asked: dict[str, Any], say: Say) -> dict[str, Any]:
    errors = {"input": InputError(["one", "two"]), "run": RunError("down"), "bug": ValueError("oops")}
    raise errors[asked["how"]]


COMMANDS = {"echo": echo, "fail": fail}


async def ask_here(path: Path, command: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return await asyncio.to_thread(ask, path, command, said.append), said


@pytest.mark.parametrize("depth", [1, 30])
async def test_a_command_is_answered_with_progress_however_long_the_path(tmp_path: Path, depth: int) -> None:
    directory = tmp_path.joinpath(*["deep"] * depth)
    directory.mkdir(parents=True)
    control = Control(directory / "control.sock", COMMANDS)
    await control.open()
    assert (directory / "control.sock").stat().st_mode & 0o777 == 0o600
    result, said = await ask_here(directory / "control.sock", {"command": "echo", "more": [1]})
    assert result == {"asked": {"command": "echo", "more": [1]}}
    assert said == ["line 0", "line 1", "line 2"]
    await control.close()
    await control.close()
    assert not (directory / "control.sock").exists()


async def test_a_socket_that_a_killed_driver_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with pytest.raises(InputError, match="a driver must be playing"):
        await ask_here(path, {"command": "echo"})
    control = Control(path, COMMANDS)
    await control.open()
    assert (await ask_here(path, {"command": "echo"}))[0]
    await control.close()


async def test_without_a_driver_the_answer_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"got none that listens: start it with sandplay resume {tmp_path}"):
        await ask_here(tmp_path / "control.sock", {"command": "echo"})


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ({"command": "fail", "how": "input"}, InputError, "one\ntwo"),
        ({"command": "fail", "how": "run"}, RunError, "down"),
        ({"command": "fail", "how": "bug"}, RunError, "ValueError: oops"),
        ({"command": "dance"}, InputError, "command must be one of echo, fail, got 'dance'"),
        ({}, InputError, "command must be one of echo, fail, got 'None'"),
    ],
)
async def test_what_goes_wrong_is_told(tmp_path: Path, command: dict[str, Any], kind: type, message: str) -> None:
    control = Control(tmp_path / "control.sock", COMMANDS)
    await control.open()
    with pytest.raises(kind) as raised:
        await ask_here(tmp_path / "control.sock", command)
    assert str(raised.value) == message
    await control.close()


@pytest.mark.parametrize("line", [b"not json\n", b"[1]\n", b"\xff\n", b"", b"x" * (1 << 17) + b"\n"])
async def test_a_line_that_is_no_request_is_refused(tmp_path: Path, line: bytes) -> None:
    control = Control(tmp_path / "control.sock", COMMANDS)
    await control.open()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    writer.write(line)
    writer.write_eof()
    answer = json.loads(await reader.readline())
    assert answer["error"]["kind"] == "InputError" and "one line of JSON" in answer["error"]["problems"][0]
    writer.close()
    await control.close()


async def test_a_command_goes_on_when_whoever_asked_has_gone(tmp_path: Path) -> None:
    begun, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(asked: dict[str, Any], say: Say) -> dict[str, Any]:
        begun.set()
        await release.wait()
        say("nobody hears this")
        ended.set()
        return {}

    control = Control(tmp_path / "control.sock", {"slow": slow})
    await control.open()
    _, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
    writer.write(b'{"command": "slow"}\n')
    await begun.wait()
    writer.close()
    await writer.wait_closed()
    release.set()
    await asyncio.wait_for(ended.wait(), 10)
    await control.close()


async def test_what_is_being_done_when_the_run_ends_is_told_so(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def endless(asked: dict[str, Any], say: Say) -> dict[str, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    control = Control(tmp_path / "control.sock", {"endless": endless})
    await control.open()
    asking = asyncio.ensure_future(ask_here(tmp_path / "control.sock", {"command": "endless"}))
    await begun.wait()
    await control.close()
    with pytest.raises(RunError, match="the run has ended before this was done"):
        await asking
