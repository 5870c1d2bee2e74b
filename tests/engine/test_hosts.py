"""Which URLs name this machine, whatever tricks they are spelled with."""

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.hosts import host_of, is_loopback, is_loopback_host

INSIDE = (
    "http://127.0.0.1:8000/v1",
    "http://127.8.9.10/v1",
    "http://localhost:8000",
    "https://LocalHost/v1",
    "http://127.0.0.1:80/v1",
    "http://[::1]:8000/v1",
    "http://[0:0:0:0:0:0:0:1]/",
)
OUTSIDE = (
    "http://localhost@evil.example/v1",
    "http://127.0.0.1:8000@evil.example/v1",
    "http://evil.example\\@localhost/v1",
    "http://127.0.0.1.evil.example/v1",
    "http://localhost.evil.example/v1",
    "http://evil.localhost/v1",
    "http://0.0.0.0:8000/v1",
    "http://[::]/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0x7f.1/v1",
    "http://127.1/v1",
    "http://0177.0.0.1/v1",
    "http://0127.0.0.1/v1",
    "http://\uff11\uff12\uff17.0.0.1/v1",
    "http://loca\uff4chost/v1",
    "http://localho\u017ft/v1",
    "http://[::1].evil.example/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://[::1%25eth0]/v1",
    "http://[fe80::1]/v1",
    "http://localhost%2eevil.example/v1",
    "http://localhost%00.evil.example/v1",
    "http://localhost:80:evil.example/v1",
    "http://localhost..",
    "https://localhost./v1",
    "http://127.0.0.1.:80/v1",
    "http://10.0.0.7/v1",
    "http://192.168.0.1/v1",
    "http://169.254.169.254/v1",
    "https://api.openai.com/v1",
    "localhost:8000",
    "//localhost.evil.example",
    "http:///v1",
    "http://[::1/v1",
    "",
)


@pytest.mark.parametrize("url", INSIDE)
def test_this_machine_is_known_by_its_names(url: str) -> None:
    assert is_loopback(url) and is_loopback_host(host_of(url))


@pytest.mark.parametrize("url", OUTSIDE)
def test_nothing_else_is_taken_for_it(url: str) -> None:
    assert not is_loopback(url)


def test_a_host_is_named_without_user_and_password() -> None:
    assert host_of("https://ann:secret@Models.example:8443/v1") == "models.example"
    assert host_of("http://[::1") == "" and host_of("") == ""


PARTS = st.sampled_from(
    [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "evil.example",
        "@",
        ":",
        "80",
        ".",
        "/",
        "\\",
        "#",
        "?",
        "%2e",
        "\t",
        " ",
        "v1",
    ]
)


@given(st.lists(PARTS, max_size=7).map(lambda parts: "http://" + "".join(parts)))
@example("http://[::1].evil.example")
@example("http://evil.example\\@localhost")
def test_the_client_goes_to_this_machine_for_whatever_is_taken_for_it(url: str) -> None:
    if is_loopback(url):
        try:
            host = httpx2.URL(url).host
        except httpx2.InvalidURL:
            return
        assert is_loopback_host(host)


@given(st.text())
def test_any_text_is_read(url: str) -> None:
    assert isinstance(host_of(url), str) and is_loopback(url) in (True, False)
