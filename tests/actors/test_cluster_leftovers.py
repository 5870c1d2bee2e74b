"""Processes of replicas on other nodes: ended there, and remembered where nobody can end them yet."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from actors.leftovers import LOST
from actors.processes import ProcessRecord, ProcessTable, describe_tree
from tests.running import ROOT, runs
from tests.started_nodes import StartedCluster, separates_nodes, started_cluster

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not separates_nodes(), reason="a process may not have a host name of its own here"),
]

END = """
import asyncio, sys
from pathlib import Path
from actors.cluster import join_cluster, leave_cluster
from actors.leftovers import end_before_start, end_everywhere
from actors.processes import ProcessTable

async def main(address, path, before_start):
    table = ProcessTable(Path(path))
    ray = await join_cluster(address, table, lambda text: None)
    await (end_before_start if before_start else end_everywhere)(ray, table, "base/0")
    await leave_cluster(table)

asyncio.run(main(sys.argv[1], sys.argv[2], len(sys.argv) > 3))
"""


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def records_on(host: str, *processes: "subprocess.Popen[bytes]") -> list[ProcessRecord]:
    found = [describe_tree("base/0", process.pid)[0] for process in processes]
    return [msgspec.structs.replace(record, host=host) for record in found]


def end(cluster: StartedCluster, table: ProcessTable, *how: str) -> ProcessTable:
    command = [sys.executable, "-W", "ignore", "-c", END, cluster.address, str(table.path), *how]
    done = subprocess.run(command, cwd=ROOT, env=cluster.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return ProcessTable(table.path)


def test_what_a_lost_host_ran_is_ended_once_it_is_there_again(tmp_path: Path) -> None:
    near, far = sleeper(), sleeper()
    try:
        with started_cluster([1, 1]) as cluster:
            table = ProcessTable(tmp_path / "processes.json")
            # Nodes of one machine share its pids: what a node ends tells whether it was asked.
            table.put("base/0", [*records_on("node-2", near), *records_on("node-3", far)])
            table = end(cluster, table)
            assert near.wait(10) and runs(far.pid)
            assert [(record.replica, record.host, record.pid) for record in table.records] == [
                (LOST, "node-3", far.pid)
            ]
            table = end(cluster, table, "before start")
            assert runs(far.pid) and len(table.of(LOST)) == 1
            cluster.add()
            table = end(cluster, table, "before start")
            assert far.wait(10) and table.records == ()
    finally:
        for process in (near, far):
            process.kill()
            process.wait()
