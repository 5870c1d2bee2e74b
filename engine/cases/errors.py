"""The one error of case and principle input."""

from engine.errors import InputError


class CaseError(InputError):
    """A case or principle source is refused.

    `problems` lists every fault found in the source, each with its place (file, and line and column or record and
    id), the rule, the value found and the remedy.
    """
