"""Small tasks on nodes of a cluster, each pinned to its node and taking no share of it.

What goes wrong there is an answer too: a reason in one line. Knows nothing of what the tasks do.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from actors.cluster import actor_environment


class NodeFailed(Exception):
    """A task came to nothing on its node; the text says why, on one line."""


async def call_on_node(
    ray: Any,
    node: str,
    function: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    within_s: float | None = None,
) -> Any:
    """Call a function on the node with that id and return its answer. Raises `NodeFailed`, also when it takes longer.

    `environment` replaces that of our actors, which is offline.
    """
    options = {
        "num_cpus": 0,
        "max_retries": 0,
        "scheduling_strategy": ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False),
        "runtime_env": {"env_vars": dict(environment if environment is not None else actor_environment({}))},
    }
    answer = ray.remote(function).options(**options).remote(*arguments)
    try:
        async with asyncio.timeout(within_s):
            return await answer
    except TimeoutError:
        with contextlib.suppress(Exception):  # it may have ended just now
            ray.cancel(answer, force=True)
        raise NodeFailed(f"no answer within {within_s:g} s") from None
    except Exception as error:  # noqa: BLE001  Ray raises many kinds, and each means that nothing came of it there
        raise NodeFailed(_one_line(error)) from None


def _one_line(error: Exception) -> str:
    """Return what an error says: of one that a task raised its last line, which is the error itself."""
    from ray.exceptions import RayTaskError

    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[-1 if isinstance(error, RayTaskError) else 0].strip()
