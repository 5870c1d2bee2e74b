"""What a fine-tuning job says of itself: its events, told once each, and the losses among them."""

import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final

from training.openai_api import EventObject, OpenAIApi

MAX_SAID: Final = 20
"""Messages told after one look."""


class Events:
    """The events of one job, as far as one process has seen them."""

    def __init__(self, api: OpenAIApi, say: Callable[[str], None]) -> None:
        self._api = api
        self._say = say
        self._seen: set[str] = set()
        self._train: dict[float, float] = {}
        self._held_out: dict[float, float] = {}

    @property
    def losses(self) -> tuple[float, ...]:
        """The losses of the training steps reported, in order."""
        return tuple(loss for _, loss in sorted(self._train.items()))

    @property
    def held_out_loss(self) -> float | None:
        """The last loss on held-out rows, None when there is none."""
        return self._held_out[max(self._held_out)] if self._held_out else None

    async def read(self, job: str) -> None:
        """Take in what is new: all messages are said, of figures the last."""
        fresh = await self._fresh(job)
        self._seen |= {event.id for event in fresh}
        for event in fresh:
            self._take(event)
        figures = [event for event in fresh if event.type == "metrics"][-1:]
        said = [event for event in fresh if event.type != "metrics"][-MAX_SAID:]
        for event in (*said, *figures):
            self._say(f"{job}: {self._api.quote(event.message)}")

    async def _fresh(self, job: str) -> list[EventObject]:
        """Return the events not seen before, oldest first."""
        found: list[EventObject] = []
        async with aclosing(self._api.event_pages(job)) as pages:
            async for page in pages:
                fresh = [event for event in page if event.id not in self._seen]
                found += fresh
                if len(fresh) < len(page):
                    break
        # The API lists the latest first; the sort is stable and keeps those of one second in order.
        found.reverse()
        return sorted(found, key=lambda event: event.created_at)

    def _take(self, event: EventObject) -> None:
        data = event.data if isinstance(event.data, dict) else {}
        step = _number(data.get("step"))
        loss = _number(data.get("train_loss"))
        # The loss over all held-out rows comes now and then, that of one batch of them more often.
        held_out = _number(data.get("full_valid_loss"))
        if step is not None and loss is not None:
            self._train[step] = loss
        if step is not None and held_out is not None:
            self._held_out[step] = held_out


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
