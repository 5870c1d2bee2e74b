"""Mapping the package's exceptions to failures; over HTTP in test_openai_backend.py."""

from email.utils import formatdate

import httpx2
import openai
import pytest

from engine import openai_errors


def test_retry_after_counts_from_now() -> None:
    assert openai_errors.retry_after_s({"retry-after": formatdate(1_000_030, usegmt=True)}, 1_000_000) == 30


def test_every_exception_of_the_package_is_mapped() -> None:
    about = openai_errors.Endpoint(label="http://here", model="m")
    request = httpx2.Request("POST", "http://here")
    response = httpx2.Response(400, request=request)
    for error in (
        openai.APITimeoutError(request),
        openai.APIConnectionError(request=request),
        openai.APIResponseValidationError(response, None),
        openai.APIError("odd", request, body=None),
        *(c("odd", response=response, body=None) for c in openai.APIStatusError.__subclasses__()),
    ):
        assert openai_errors.failure_of(error, about, 0.0).message.startswith("http://here"), error
    with pytest.raises(ZeroDivisionError):
        openai_errors.failure_of(ZeroDivisionError(), about, 0.0)


def test_quotes_hide_keys_before_they_are_shortened() -> None:
    about = openai_errors.Endpoint(label="http://here", model="m", secret="hush-hush")
    assert about.quote("x" * 295 + "hush-hush").endswith("***")
    assert about.quote("key sk-abcdefgh\x07\nBearer abc") == "key *** Bearer ***"
