"""Hooks of somebody's own protocol that read finished episodes: one that fails costs its figures, never the run."""

import functools
import logging
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from engine.api_keys import hide
from engine.transcript import one_line

logger: Final = logging.getLogger(__name__)
EMPTY: Final[dict[str, Callable[[], Any]]] = {
    **{"missing": dict, "facts": dict, "histograms": dict},
    **{"warnings": list, "sections": list},
}
"""What stands for the answer of a hook that failed, by the hook's name."""

S = TypeVar("S", bound=msgspec.Struct)


def forgiving(spec: S, whose: str) -> S:
    """Return a protocol whose hooks of reading answer with nothing where they raise; the first time it is said why."""
    hooks = {name: getattr(spec, name) for name in EMPTY}
    wrapped = {name: _forgiven(hook, name, whose) for name, hook in hooks.items() if hook is not None}
    return msgspec.structs.replace(spec, **wrapped)


def _forgiven(hook: Callable[[Any], Any], name: str, whose: str) -> Callable[[Any], Any]:
    has_said = False

    @functools.wraps(hook)
    def call(what: Any) -> Any:
        nonlocal has_said
        try:
            return hook(what)
        except Exception as error:  # noqa: BLE001  somebody's own code, after everything was played
            if not has_said:
                why = one_line(hide(f"{type(error).__name__}: {error}"), 300)
                logger.warning("%s: %s() failed, what it says is left out: %s", whose, name, why)
            has_said = True
            return EMPTY[name]()

    return call
