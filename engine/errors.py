"""Every error Sandplay raises on purpose.

    SandplayError
    +- InputError            bad usage or input; refused before work starts (exit 2)
    |  +- ConfigError        the configuration
    |  +- RunHeld            another driver holds this run directory
    +- RunError              the run cannot go on; episodes stay live (exit 1)
    |  +- JournalError       the journal cannot be read or written
    |  +- ProtocolDrift      a replayed request differs from the journalled one
    |  +- BackendDown        no replica of a pool is left, or the endpoint refuses every call
    +- StepFailed            one step of one dialogue; uncaught, the episode is `failed` (data, not a crash)

An `InputError` lists all its problems at once, each as rule, value found, remedy.
"""

from collections.abc import Sequence

MAX_LISTED = 20


class SandplayError(Exception):
    """Base of every error raised on purpose."""


class InputError(SandplayError):
    """Bad usage or input.

    `problems` holds one sentence each: what, where, the value found, the remedy.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__(self._render())

    def _render(self) -> str:
        listed = self.problems[:MAX_LISTED]
        more = len(self.problems) - len(listed)
        tail = [f"... and {more} more"] if more > 0 else []
        return "\n".join([*listed, *tail])


class ConfigError(InputError):
    """The configuration is refused."""


class RunHeld(InputError):
    """Another driver holds this run directory."""


class RunError(SandplayError):
    """The run cannot go on; what is journalled stays, `sandplay resume` continues."""


class JournalError(RunError):
    """The journal cannot be read or written (disk full, damaged, locked by another process)."""


class ProtocolDrift(RunError):
    """A replayed request differs from the one journalled under the same path."""


class BackendDown(RunError):
    """A pool has no replica left, or its endpoint refuses every call."""


class StepFailed(SandplayError):
    """One step spent its budget, or its value is unusable.

    `kind` is a short identifier (`timeout`, `empty_reply`, ...), `path` the step's path ("" when no single
    step is to blame). A protocol may catch it at the yield; uncaught, it becomes the episode's error.
    """

    def __init__(self, kind: str, message: str, path: str = "") -> None:
        self.kind = kind
        self.path = path
        self.message = message
        super().__init__(f"{path or 'episode'}: {kind}: {message}")


def first_cause(group: BaseExceptionGroup) -> BaseException:
    """Return the failure that ended a task group: one of ours if there is any, else the first."""
    ours = group.subgroup(SandplayError)
    chosen: BaseException = ours if ours is not None else group
    while isinstance(chosen, BaseExceptionGroup):
        chosen = chosen.exceptions[0]
    return chosen
