"""Tasks: every exam that ships, each one small declaration.

A task of one's own is a `Task` as well: pass it where a task is wanted, no registration is needed. Knows no models.
"""

import difflib
from typing import Final

from engine.errors import InputError
from eval.tasks import biomedical, general, imhi
from eval.tasks.task import Task

TASKS: Final = {
    task.name: task
    for task in (
        biomedical.MEDQA,
        biomedical.MEDMCQA_TASK,
        biomedical.PUBMEDQA_TASK,
        biomedical.PUBMEDQA_ABSTRACT,
        biomedical.MMLU,
        imhi.CAMS,
        imhi.DREADDIT,
        imhi.IRF,
        imhi.DR,
        imhi.CLP,
        imhi.LONELINESS,
        imhi.MULTIWD,
        imhi.SAD,
        imhi.SWMH,
        imhi.T_SID,
        general.GENERAL,
    )
}
"""The shipped tasks by name."""


def find_task(name: str) -> Task:
    """Return the shipped task of a name, in any case. Raises InputError that names the nearest."""
    task = TASKS.get(name.strip().lower())
    if task is None:
        near = difflib.get_close_matches(name.strip().lower(), TASKS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "set one of these"
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {name[:60]!r}: {hint}")
    return task
