"""Which arguments the installed vLLM's engine takes, read off its source without importing it.

The import takes 15 s and 0.7 GB on two cores, the reading a tenth of a second. Where vLLM is not installed (the driver
of a remote cluster) nothing is known here, and each replica checks for itself.
"""

import ast
import difflib
import importlib.util
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Final

from engine.engine_table import own_rule, plain

_SOURCE: Final = "engine/arg_utils.py"
_CLASSES: Final = ("EngineArgs", "AsyncEngineArgs")


@cache
def known_arguments() -> frozenset[str] | None:
    """Return the names of vLLM's engine arguments, None where they cannot be read."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        return None
    source = Path(found.origin).parent / _SOURCE
    names = read_fields(source.read_text("utf-8")) if source.is_file() else frozenset()
    return names if "model" in names else None


def read_fields(source: str) -> frozenset[str]:
    """Return the public annotated fields of the argument classes in a module's text."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name in _CLASSES]
    fields = [line.target for node in classes for line in node.body if isinstance(line, ast.AnnAssign)]
    return frozenset(target.id for target in fields if isinstance(target, ast.Name) and not target.id.startswith("_"))


def unknown_problems(where: str, names: Iterable[str], known: Collection[str]) -> list[str]:
    """Return one sentence for each name that the engine does not take, with the nearest that it knows."""
    problems = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(plain(name), known, n=1, cutoff=0.7)
            hint = _hint(where, near[0]) if near else "see the engine arguments in vLLM's manual"
            problems.append(f"{where}.engine.{name} must be an engine argument of the installed vLLM: {hint}")
    return problems


def _hint(where: str, near: str) -> str:
    rule = own_rule(where, near)
    if rule.startswith("set "):
        return f"did you mean {near}? {rule}"
    return f"did you mean {near}? it cannot be set: {rule}" if rule else f"did you mean {near}?"
