"""A Ray cluster of several nodes on this machine, in a process of its own, with CPUs and GPUs as declared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from tests.running import free_port

_NODES = """
import json, sys
from ray.cluster_utils import Cluster
first, *others = json.loads(sys.argv[2])
head = {**first, "include_dashboard": False, "gcs_server_port": int(sys.argv[1])}
cluster = Cluster(initialize_head=True, head_node_args=head)
for node in others:
    cluster.add_node(**node)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@contextmanager
def ray_nodes(nodes: Sequence[dict[str, float]], env: dict[str, str] | None = None) -> Iterator[str]:
    """Give the address of a cluster; each node is what `Cluster.add_node` takes."""
    quiet = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _NODES, str(free_port()), json.dumps(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **quiet, **(env or {})},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        family = psutil.Process(process.pid).children(recursive=True)
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        for left in psutil.wait_procs(family, timeout=10)[1]:
            left.kill()
