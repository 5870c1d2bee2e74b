"""One OpenAI-compatible endpoint: the client, the preflight, one call. Shared by the chat backend and the embedder.

The `openai` package brings authentication and transport; retries are off, because the scheduler owns them, and bodies
are encoded and decoded here, because strict typed decoding is what tells a malformed answer. `openai` is imported when
the endpoint opens, never with this module.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine.api_keys import know, read_key, without_whole
from engine.base_url import split_url
from engine.errors import BackendDown
from engine.hosts import is_loopback
from engine.openai_errors import Endpoint, cause_of, is_timeout, said_by

if TYPE_CHECKING:
    from openai import AsyncOpenAI

PREFLIGHT_S: Final = 10.0
DUMMY_KEY: Final = "unused"
OPENAI_HOST: Final = "api.openai.com"
MEANT_FOR_OPENAI: Final = ("OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""Variables that the package makes headers of, whatever host it asks: headers may hold a key of another one."""

_JSON: Final = {"Content-Type": "application/json"}


class _Model(msgspec.Struct):
    id: str = ""
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class OpenAIEndpoint:
    """A client of one base URL. `open` before `post`, `close` at the end; closing twice is fine.

    `api_key_env` names the environment variable that holds the key; None sends a dummy key. Raises InputError when the
    URL is no http(s) URL or holds credentials. A key that comes back in an answer is taken out of it.
    """

    def __init__(self, *, base_url: str, model: str, api_key_env: str | None, max_connections: int) -> None:
        parts, port = split_url(base_url)
        if api_key_env is not None:
            know(api_key_env)
        self.base_url = base_url
        self.host = parts.hostname or ""
        self.max_connections = max_connections
        self.about = Endpoint(
            label=f"{parts.scheme}://{self.host}{port}{parts.path.rstrip('/')}", model=model, key_env=api_key_env
        )
        self._client: AsyncOpenAI | None = None

    async def open(self) -> int | None:
        """Make the client and ask for the models; return the window length stated for the model, if any.

        Raises InputError when the named environment variable is unset and `BackendDown` when the endpoint is
        unreachable or refuses the key. Any other HTTP answer shows that it is up.
        """
        self._client = self._make_client(self._read_key())
        try:
            return await self._preflight()
        except BaseException:
            await self.close()
            raise

    async def post(self, path: str, body: Any, *, headers: Mapping[str, str] | None = None, timeout_s: float) -> bytes:
        """Return the body of a successful answer. Raises `openai.APIError` or TimeoutError.

        `timeout_s` bounds the whole call; the transport's own limit is per read, which a dripping server never hits.
        """
        client = self._opened()
        async with asyncio.timeout(timeout_s):
            answer = await client.post(
                path,
                cast_to=bytes,
                content=msgspec.json.encode(body),
                options={"headers": {**_JSON, **(headers or {})}, "timeout": timeout_s},
            )
        return without_whole(answer, self.about.secret)

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, timeout_s: float) -> bytes:
        """Return the body of a successful answer. Raises as `post` does."""
        client = self._opened()
        async with asyncio.timeout(timeout_s):
            answer = await client.get(path, cast_to=bytes, options={"params": dict(query or {}), "timeout": timeout_s})
        return without_whole(answer, self.about.secret)

    async def upload(self, name: str, data: bytes, purpose: str, *, timeout_s: float) -> bytes:
        """Upload a file under a name; return the body of a successful answer. Raises as `post` does."""
        client = self._opened()
        async with asyncio.timeout(timeout_s):
            answer = await client.post(
                "/files",
                cast_to=bytes,
                body={"purpose": purpose},
                files=[("file", (name, data, "application/jsonl"))],
                options={"headers": {"Content-Type": "multipart/form-data"}, "timeout": timeout_s},
            )
        return without_whole(answer, self.about.secret)

    async def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _opened(self) -> "AsyncOpenAI":
        if self._client is None:
            raise RuntimeError(f"{self.about.label} must be started before use and not be closed: call start()")
        return self._client

    def _read_key(self) -> str:
        if self.about.key_env is None:
            return DUMMY_KEY
        secret = read_key(self.about.key_env, self.about.label)
        self.about = msgspec.structs.replace(self.about, secret=secret)
        return secret

    def _make_client(self, key: str) -> "AsyncOpenAI":
        from openai import DEFAULT_CONNECTION_LIMITS, AsyncOpenAI, DefaultAioHttpClient

        # Callers bound what is in flight; the pool's own limit must not queue a second time.
        limits = type(DEFAULT_CONNECTION_LIMITS)(max_connections=self.max_connections + 1)
        # Texts go to the host that is named: no redirect is followed, and what is on this machine is reached directly,
        # whatever proxy the environment names.
        direct = {"http://": None, "https://": None, "all://": None} if is_loopback(self.base_url) else None
        http_client = DefaultAioHttpClient(limits=limits, follow_redirects=False, mounts=direct)
        with _unset(() if self.host == OPENAI_HOST else MEANT_FOR_OPENAI):
            return AsyncOpenAI(api_key=key, base_url=self.base_url, max_retries=0, http_client=http_client)

    async def _preflight(self) -> int | None:
        from openai import APIConnectionError, APIStatusError

        try:
            body = await asyncio.wait_for(self._get_models(), PREFLIGHT_S)
        except (TimeoutError, APIConnectionError) as error:
            raise BackendDown(self._unreachable(error)) from None
        except APIStatusError as error:
            if error.status_code in (401, 403):
                said = f"{error.status_code}: {self.about.quote(said_by(error))}"
                raise BackendDown(f"{self.about.label} refuses the key ({said}): {self.about.key_remedy}") from None
            return None
        return _window(body, self.about.model)

    async def _get_models(self) -> bytes:
        return await self._opened().get("/models", cast_to=bytes, options={"timeout": PREFLIGHT_S})

    def _unreachable(self, error: Exception) -> str:
        is_late = isinstance(error, TimeoutError) or is_timeout(error)
        reason = f"no answer within {PREFLIGHT_S:g} s" if is_late else self.about.quote(cause_of(error))
        return f"{self.about.label} must be reachable, got {reason}: start the server or correct base_url"


@contextmanager
def _unset(names: tuple[str, ...]) -> Iterator[None]:
    """Have variables of the environment unset for a moment; nothing is awaited meanwhile."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _window(body: bytes, model: str) -> int | None:
    """Read vLLM's `max_model_len` of the model from a list of models, tolerating anything else."""
    try:
        models = msgspec.json.decode(body, type=_Models).data
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return next((known.max_model_len for known in models if known.id == model), None)
