"""Composes replies instead of sampling them: a trace of known lengths whose every reply parses, from no model at all.

A small model seldom says what a long protocol can go on with; replayed on an engine the composed ids cost what sampled
ones would.
"""

from typing import Any, Final

from actors.rendering import PromptRenderer
from benchmarks.instant import InstantBackend
from engine.backend import Request
from engine.simulation.answers import Answers
from engine.steps import Reply, Usage
from engine.token_ids import pack_ids

NAME: Final = "composed"


class Composer(InstantBackend):
    """A `Backend` that gives the answers of `answers` as token ids of `tokenizer`, the end of the turn included."""

    def __init__(self, answers: Answers, renderer: PromptRenderer, tokenizer: Any) -> None:
        super().__init__(lambda request: answers.answer(request).text)
        self._renderer = renderer
        self._tokenizer = tokenizer

    def _reply(self, request: Request) -> Reply:
        ids = self._tokenizer.encode(self._say(request), add_special_tokens=False)
        ids = [*ids, self._renderer.end_of_turn_ids[0]]
        prompt = self._renderer.render(request.messages)
        return Reply(
            self._renderer.decode(ids),
            token_ids=pack_ids(ids),
            tokenizer=self._renderer.fingerprint,
            usage=Usage(len(prompt.token_ids), len(ids), 0),
            model=NAME,
            replica=NAME,
            weights=NAME,
        )
