"""From replies to answers; pure.

Invariant: a prompt counts once in the usage, however many choices were made of it; a stream says the same as the whole
answer, in a few chunks.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from engine.endpoint.wire import (
    Answer,
    ChatChoice,
    ChatLogprobs,
    ChatPiece,
    ChatToken,
    Choice,
    CompletionChoice,
    CompletionLogprobs,
    PromptDetails,
    Said,
    TopToken,
    UsageBody,
)
from engine.steps import Reply, ReplyDetails

DONE: Final = b"data: [DONE]\n\n"

_ENCODER: Final = msgspec.json.Encoder()


class Heading(msgspec.Struct, frozen=True):
    """What every chunk of an answer begins with. `created` is Unix time."""

    id: str
    created: int
    model: str


def chat_answer(heading: Heading, replies: Sequence[Reply], num_tops: int) -> Answer:
    """Return the answer to a chat, one choice per reply."""
    choices = tuple(
        ChatChoice(index, Said("assistant", reply.text), reply.finish, _chat_logprobs(reply, num_tops))
        for index, reply in enumerate(replies)
    )
    return Answer(
        heading.id, "chat.completion", heading.created, heading.model, choices, _usage(replies, len(replies)),
        _fingerprint(replies),
    )  # fmt: skip


def completion_answer(heading: Heading, replies: Sequence[Reply], num_each: int, *, has_logprobs: bool) -> Answer:
    """Return the answer to a completion: `num_each` choices per prompt, prompt by prompt."""
    choices = tuple(
        CompletionChoice(
            index, _echoed(reply), reply.finish, _completion_logprobs(reply.details) if has_logprobs else None
        )
        for index, reply in enumerate(replies)
    )
    return Answer(
        heading.id, "text_completion", heading.created, heading.model, choices, _usage(replies, num_each),
        _fingerprint(replies),
    )  # fmt: skip


def chunks(answer: Answer, *, has_usage: bool) -> Iterator[bytes]:
    """Yield an answer as server-sent events: each choice in one piece, then, if it is wanted, the usage."""
    kind = answer.object if answer.object == "text_completion" else "chat.completion.chunk"
    for choice in answer.choices:
        for piece in _pieces(choice):
            yield _event(msgspec.structs.replace(answer, object=kind, choices=(piece,), usage=None))
    if has_usage:
        yield _event(msgspec.structs.replace(answer, object=kind, choices=()))
    yield DONE


def _pieces(choice: Choice) -> Iterator[Choice]:
    if isinstance(choice, ChatChoice):
        yield ChatPiece(choice.index, choice.message, logprobs=choice.logprobs)
        yield ChatPiece(choice.index, Said(), choice.finish_reason)
    else:
        yield choice


def _event(answer: Answer) -> bytes:
    return b"data: " + _ENCODER.encode(answer) + b"\n\n"


def _usage(replies: Sequence[Reply], num_each: int) -> UsageBody:
    firsts = [reply.usage for reply in replies[::num_each]]
    prompt = sum(usage.prompt_tokens for usage in firsts)
    completion = sum(reply.usage.completion_tokens for reply in replies)
    cached = sum(usage.cached_tokens for usage in firsts)
    return UsageBody(prompt, completion, prompt + completion, PromptDetails(cached))


def _fingerprint(replies: Sequence[Reply]) -> str | None:
    return "+".join(dict.fromkeys(reply.weights for reply in replies if reply.weights)) or None


def _echoed(reply: Reply) -> str:
    return reply.text if reply.details is None else reply.details.prompt + reply.text


def _chat_logprobs(reply: Reply, num_tops: int) -> ChatLogprobs | None:
    details = reply.details
    if details is None:
        return None
    rows = zip(details.tokens, details.log_probabilities, details.tops, strict=True)
    return ChatLogprobs([_chat_token(token, own, tops or {}, num_tops) for token, own, tops in rows])


def _chat_token(token: str, own: float | None, tops: dict[str, float], num_tops: int) -> ChatToken:
    likeliest = sorted(tops.items(), key=lambda top: -top[1])[:num_tops]
    shown = [TopToken(text, value, _bytes(text)) for text, value in likeliest]
    return ChatToken(token, 0.0 if own is None else own, _bytes(token), shown)


def _bytes(text: str) -> list[int]:
    return list(text.encode("utf-8", "replace"))


def _completion_logprobs(details: ReplyDetails | None) -> CompletionLogprobs | None:
    if details is None:
        return None
    offsets, offset = [], 0
    for token in details.tokens:
        offsets.append(offset)
        offset += len(token)
    return CompletionLogprobs(list(details.tokens), list(details.log_probabilities), list(details.tops), offsets)
