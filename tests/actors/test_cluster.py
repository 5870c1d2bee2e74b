import asyncio
import os
import signal
from pathlib import Path

import pytest

from actors.cluster import RAY_RECORDS, _check_address, join_cluster, leave_cluster
from actors.nodes import read_nodes, this_machine
from actors.processes import ProcessTable, find_process
from engine.errors import BackendDown


@pytest.mark.timeout(200)
async def test_one_ray_for_all_on_loopback_that_leaves_the_drivers_signals_alone(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path / "processes.json")
    lines: list[str] = []
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    ray, same = await asyncio.gather(join_cluster(None, table, lines.append), join_cluster(None, table, lines.append))
    assert ray is same and ray.is_initialized()
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    (node,), (foreseen,) = read_nodes(ray), this_machine()
    assert node.free == node.total == foreseen.free == foreseen.total
    names = {record.name for record in table.of(RAY_RECORDS)}
    assert {"raylet", "gcs_server"} <= names
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(terminated.wait(), 10)
    await leave_cluster(table)
    assert ray.is_initialized()
    started = table.records
    await leave_cluster(table)
    assert not ray.is_initialized()
    assert table.records == () and [record for record in started if find_process(record)] == []
    terminated.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(terminated.wait(), 10)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)


@pytest.mark.timeout(200)
async def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BackendDown, match="127.0.0.1:1 cannot be reached"):
        await join_cluster("127.0.0.1:1", ProcessTable(tmp_path / "processes.json"), lambda _text: None)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_what_is_no_ray_is_said_before_ray_tries(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.cluster._REACH_WITHIN_S", 0.5)
    tried: list[str] = []
    monkeypatch.setattr("actors.cluster.check_token", tried.append)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(BackendDown, match=f"must answer at {address}, got no word of Ray: set ray.address to"):
            await asyncio.to_thread(_check_address, address)
    assert tried == []
