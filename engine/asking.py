"""Asking with re-asks: what a protocol uses instead of a bare `ask` when an empty or unparseable reply must not pass.

A re-ask is a step of its own (`PATH/again/1`) with a changed prompt, at most `max_reasks` of them. An utterance that
stays empty is a typed failure; a value that stays unparseable is missing, never a default.
"""

from typing import Final

import msgspec

from engine.errors import StepFailed
from engine.steps import Fields, Generate, Protocol, Reply, ask
from engine.values import describe, parse

MAX_REASKS: Final = 2
EMPTY_HINT: Final = "(No reply arrived. Please answer the message above now, in plain words.)"
VALUE_HINT: Final = "(The last answer could not be read. Answer again, with nothing but: {form})"


class Value(msgspec.Struct, frozen=True, gc=False):
    """A parsed value, or None when it is missing; `reply` is the last one asked, `num_asks` counts all."""

    choice: str | None
    fields: dict[str, str]
    reply: Reply
    num_asks: int

    @property
    def is_missing(self) -> bool:
        """Whether no usable value came back."""
        return self.choice is None and not self.fields


def ask_text(step: Generate, *, max_reasks: int = MAX_REASKS) -> Protocol[Reply]:
    """Return a reply that says something. Raises StepFailed(`empty_reply`)."""
    current = step
    for number in range(max_reasks + 1):
        # As `ask`, without its frame: this is most of what a dialogue asks, and every live dialogue stands here.
        reply: Reply = yield current
        if reply.text.strip():
            return reply
        current = again(step, number + 1, EMPTY_HINT)
    raise StepFailed("empty_reply", f"{step.role} said nothing, asked {max_reasks + 1} times", step.path)


def ask_value(step: Generate, *, max_reasks: int = MAX_REASKS) -> Protocol[Value]:
    """Return the value that `step.value` describes, or a missing one."""
    schema = step.value
    if schema is None:
        raise ValueError(f"step {step.path!r} has no value schema")
    hint = VALUE_HINT.format(form=describe(schema))
    current = step
    for number in range(max_reasks + 1):
        reply = yield from ask(current)
        parsed = parse(schema, reply)
        if parsed or number == max_reasks:
            break
        current = again(step, number + 1, hint)
    if isinstance(schema, Fields):
        return Value(None, parsed if isinstance(parsed, dict) else {}, reply, number + 1)
    return Value(parsed if isinstance(parsed, str) else None, {}, reply, number + 1)


def again(step: Generate, number: int, hint: str) -> Generate:
    """Return the step asked again with a hint at the tail of its view."""
    return msgspec.structs.replace(step, path=f"{step.path}/again/{number}", view=step.view.hear(hint))
