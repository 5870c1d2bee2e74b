"""From the `openai` package's exceptions to failures: which kind, what to say, when to come back.

Nothing here awaits or keeps state. Invariant: the API key never appears in a failure's message, and what a server
wrote is shortened to one line of printable text. The mapping walks the package's own exception tree, so `openai` is
imported inside functions.
"""

import math
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from engine.api_keys import hide, hide_like, without
from engine.backend import Failure, FailureKind
from engine.values import well_formed
from engine.views import neutralize

MAX_QUOTED: Final = 300

_OVERFLOW: Final = re.compile(
    r"context[ _]length|context window|maximum context|max_model_len|prompt is too long|input is too long"
    r"|too many (?:input )?tokens|maximum (?:input|sequence) length",
    re.IGNORECASE,
)
_FORMAT: Final = re.compile(r"response_format|json_schema|json schema|structured output|guided|grammar", re.IGNORECASE)
_TRANSIENT: Final = frozenset({408, 409, 425})


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a message may say about an endpoint. `label` has no user or query part; `secret` is redacted everywhere."""

    label: str
    model: str
    key_env: str | None = None
    secret: str = ""

    def quote(self, text: str) -> str:
        """Return text from outside as one short printable line without the key."""
        if self.secret:
            text = without(text, self.secret)
        line = " ".join(neutralize(well_formed(hide_like(hide(text)))).split())
        return line if len(line) <= MAX_QUOTED else line[: MAX_QUOTED - 3] + "..."

    @property
    def key_remedy(self) -> str:
        """What to do about a refused key."""
        if self.key_env is None:
            return "set api_key_env to the name of the environment variable that holds the key"
        return f"check the key in the environment variable {self.key_env}"


def failure_of(error: Exception, endpoint: Endpoint, now_s: float) -> Failure:
    """Map what one call raised; `now_s` is Unix time, for dates in Retry-After. Re-raises what is no call error."""
    from openai import APIConnectionError, APIError, APIResponseValidationError, APIStatusError

    if isinstance(error, APIStatusError):
        return _status_failure(error.status_code, said_by(error), error.response.headers, endpoint, now_s)
    if isinstance(error, APIResponseValidationError | msgspec.DecodeError | UnicodeDecodeError):
        return malformed(endpoint, str(error))
    if isinstance(error, TimeoutError):
        return timed_out(endpoint)
    if isinstance(error, APIConnectionError):
        if is_timeout(error):
            return timed_out(endpoint)
        return Failure("connection", f"{endpoint.label} broke the connection: {endpoint.quote(cause_of(error))}")
    if isinstance(error, APIError):
        return Failure("server_error", f"{endpoint.label}: {endpoint.quote(error.message)}")
    raise error


def timed_out(endpoint: Endpoint, timeout_s: float | None = None) -> Failure:
    """Say that no answer came in time."""
    limit = "" if timeout_s is None else f" within {timeout_s:g} s"
    return Failure("timeout", f"{endpoint.label} did not answer{limit}: raise the timeout or lower max_inflight")


def malformed(endpoint: Endpoint, what: str) -> Failure:
    """Say that a successful answer is not what the API promises."""
    problem = f"{endpoint.label} must answer as the OpenAI API does, got a malformed body: {endpoint.quote(what)}"
    return Failure("server_error", f"{problem}: check base_url")


def is_context_overflow(error: Exception) -> bool:
    """Whether an endpoint refused a request as longer than the model's window."""
    return getattr(error, "status_code", 0) in (400, 413, 422) and bool(_OVERFLOW.search(said_by(error)))


def is_format_named(error: Exception) -> bool:
    """Whether an endpoint's refusal names the requested response format."""
    return bool(_FORMAT.search(said_by(error)))


def said_by(error: Exception) -> str:
    """Return code, parameter and message of an error answer in one text."""
    body = getattr(error, "body", None)
    if not isinstance(body, Mapping):
        return str(getattr(error, "message", error))
    inner = body.get("error") if isinstance(body.get("error"), Mapping) else body
    parts = [inner.get(key) for key in ("code", "param", "message", "detail")] if isinstance(inner, Mapping) else []
    return " ".join(str(part) for part in parts if part) or str(body)


def is_timeout(error: BaseException) -> bool:
    """Tell a timeout from a hang-up: the aiohttp transport reports both as one class, only the causes differ."""
    from openai import APITimeoutError

    causes = list(_causes(error))
    if any(isinstance(cause, TimeoutError) for cause in causes):
        return True
    return isinstance(error, APITimeoutError) and not any(_is_disconnect(cause) for cause in causes)


def cause_of(error: BaseException) -> str:
    """Return the innermost reason of a connection error."""
    texts = [str(cause) or type(cause).__name__ for cause in _causes(error)]
    return texts[-1]


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Read retry-after-ms or Retry-After (seconds or HTTP date); None when absent or senseless."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now_s)
    except (ValueError, OverflowError):
        return None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _status_failure(status: int, said: str, headers: Mapping[str, str], endpoint: Endpoint, now_s: float) -> Failure:
    kind, remedy = _judge(status, said, endpoint)
    message = f"{endpoint.label} answered {status}: {endpoint.quote(said)}: {remedy}"
    wait_s = retry_after_s(headers, now_s) if kind in ("rate_limited", "server_error") else None
    return Failure(kind, message, wait_s)


def _judge(status: int, said: str, endpoint: Endpoint) -> tuple[FailureKind, str]:
    """Return the kind of an error status and the remedy."""
    if status in (401, 403):
        return "unauthorized", endpoint.key_remedy
    if status == 429:
        if "insufficient_quota" in said:
            return "rate_limited", "the account's quota is spent, add credit"
        return "rate_limited", "lower max_inflight if this goes on"
    if status >= 500 or status in _TRANSIENT:
        return "server_error", "look at the server's log if this goes on"
    if status in (400, 413, 422) and _OVERFLOW.search(said):
        return "context_overflow", "lower max_tokens or the number of turns, or serve a longer context"
    if status == 404:
        return "rejected", f"check base_url and model ({endpoint.model!r})"
    return "rejected", f"check that the endpoint takes these parameters for {endpoint.model!r}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_disconnect(error: BaseException) -> bool:
    import aiohttp

    return isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError)
