"""What travels over HTTP: requests as clients may send them, answers and errors as OpenAI's API writes them.

Plain structs. Ranges stand in the types, and each field says in words what it must be, so that one place checks both.
Fields that OpenAI's API knows and this endpoint does not are in the tables of `engine.endpoint.reading`.
"""

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

MAX_TOPS: Final = 20
"""Log probabilities per token at most: vLLM's own bound."""
MAX_STOPS: Final = 64
MAX_MESSAGES: Final = 4096
MAX_CHOICES: Final = 128
NO_LIMIT: Final = 1 << 31

_Stop: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1024)]
Stop: TypeAlias = Annotated[
    _Stop | Annotated[list[_Stop], Meta(max_length=MAX_STOPS)],
    Meta(description=f"a text or at most {MAX_STOPS} texts, none empty or longer than 1024 characters"),
]
Temperature: TypeAlias = Annotated[float, Meta(ge=0, le=2, description="a number from 0 to 2")]
TopP: TypeAlias = Annotated[float, Meta(gt=0, le=1, description="a number above 0, at most 1")]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_CHOICES, description=f"a whole number from 1 to {MAX_CHOICES}")]
Limit: TypeAlias = Annotated[int, Meta(ge=1, lt=NO_LIMIT, description="a whole number of tokens, 1 or more")]
LimitOrNone: TypeAlias = Annotated[int, Meta(ge=0, lt=NO_LIMIT, description="a whole number of tokens, 0 or more")]
Tops: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_TOPS, description=f"a whole number from 0 to {MAX_TOPS}")]
Flag: TypeAlias = Annotated[bool, Meta(description="true or false")]
Name: TypeAlias = Annotated[str, Meta(description="a model's name")]


class TextPart(msgspec.Struct, frozen=True):
    """A part of a message; only text is taken."""

    type: Literal["text"]
    text: str


class ChatMessage(msgspec.Struct, frozen=True):
    """One message of a chat; what else clients put beside (`name`, `type`) changes nothing."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one text; parts are joined by a line break, as vLLM joins them."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


Messages: TypeAlias = Annotated[
    list[ChatMessage],
    Meta(
        min_length=1,
        max_length=MAX_MESSAGES,
        description=f"1 to {MAX_MESSAGES} messages, each with a role (system, user or assistant) and a text as content",
    ),
]


class StreamOptions(msgspec.Struct, frozen=True):
    """Options of a streamed answer."""

    include_usage: bool = False


_Options: TypeAlias = Annotated[StreamOptions, Meta(description='an object such as {"include_usage": true}')]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What chats and completions have in common. `model` "" stands for the one that is served."""

    model: Name = ""
    n: Count = 1
    temperature: Temperature = 1.0
    top_p: TopP = 1.0
    stop: Stop = []
    stream: Flag = False
    stream_options: _Options = StreamOptions()

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class ChatAsked(Asked, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`. Without a limit the reply may fill the window."""

    messages: Messages
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    logprobs: Flag = False
    top_logprobs: Tops = 0
    response_format: Annotated[dict[str, Any], Meta(description="an object with a type")] = {}


class CompletionAsked(Asked, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`. `prompts` are texts or token ids; `logprobs` None asks for none."""

    prompts: tuple[str | tuple[int, ...], ...] = ()
    max_tokens: LimitOrNone = 16
    echo: Flag = False
    logprobs: Tops | None = None


# ---------------------------------------------------------------- answers


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens, those that came from the prefix cache."""

    cached_tokens: int = 0


class UsageBody(msgspec.Struct, frozen=True):
    """Token counts of an answer: each prompt once, each choice's completion."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TopToken(msgspec.Struct, frozen=True):
    """A likely token of a chat. `bytes` are its text in UTF-8."""

    token: str
    logprob: float
    bytes: list[int]


class ChatToken(TopToken, frozen=True):
    """A token of a chat's reply, and the likeliest ones there, most likely first."""

    top_logprobs: list[TopToken]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Log probabilities of a chat's reply."""

    content: list[ChatToken]


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """Log probabilities of a completion, token by token; `text_offset` counts characters of the tokens before."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Said(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message of the model, or a piece of one in a stream."""

    role: str | None = None
    content: str | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One reply of a chat."""

    index: int
    message: Said
    finish_reason: str
    logprobs: ChatLogprobs | None = None


class ChatPiece(msgspec.Struct, frozen=True):
    """A piece of one reply in a stream."""

    index: int
    delta: Said
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class CompletionChoice(msgspec.Struct, frozen=True):
    """One completion; in a stream it comes in one piece."""

    index: int
    text: str
    finish_reason: str
    logprobs: CompletionLogprobs | None = None


Choice: TypeAlias = ChatChoice | ChatPiece | CompletionChoice


class Answer(msgspec.Struct, frozen=True):
    """An answer, or a chunk of a streamed one. `created` is Unix time; `system_fingerprint` is the weight version."""

    id: str
    object: Literal["chat.completion", "chat.completion.chunk", "text_completion"]
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: UsageBody | None = None
    system_fingerprint: str | None = None


class ModelBody(msgspec.Struct, frozen=True, kw_only=True):
    """One served model. `max_model_len` is its window in tokens, as vLLM states it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "sandplay"
    max_model_len: int | None = None


class ModelsBody(msgspec.Struct, frozen=True):
    """The answer to `GET /v1/models`."""

    data: list[ModelBody]
    object: Literal["list"] = "list"


# ---------------------------------------------------------------- errors


class ErrorDetail(msgspec.Struct, frozen=True):
    """What is wrong. `param` names the field at fault, `code` the kind of fault, where there is a name for it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """An answer that is an error."""

    error: ErrorDetail


class Refusal(Exception):
    """A request that is answered with an error. `problems` are all there are, each as rule, value found, remedy.

    `status` is HTTP's; with `retry_after_s` the client may come back after so long.
    """

    def __init__(
        self,
        problems: list[str] | str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.problems = [problems] if isinstance(problems, str) else problems
        self.status = status
        self.detail = ErrorDetail("; ".join(self.problems), type, param, code)
        self.retry_after_s = retry_after_s
        super().__init__(self.detail.message)
