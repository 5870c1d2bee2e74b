"""A key that is put where none belongs is refused before anything is kept, and not repeated by what refuses it."""

import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planted import QUICK, VARIABLE, Place, generate, make_key, write
from tests.stub import serve

KEY = make_key()


MISTAKES = (
    ("no variable", {VARIABLE: ""}, [], "got nothing"),
    ("blanks", {VARIABLE: "  "}, [], "got nothing"),
    ("a line break", {VARIABLE: f"{KEY}\r\nX-Injected: {KEY}"}, [], "no header can carry"),
    ("two words", {VARIABLE: f"Bearer {KEY}"}, [], "no header can carry"),
    ("letters beyond ASCII", {VARIABLE: f"{KEY}ü"}, [], "no header can carry"),
    ("the key for its name", {}, [f"models.base.api_key_env={KEY}"], "must be the name of an environment variable"),
    ("the key for the embedder's", {}, [f"embedder.api_key_env={KEY}"], "must be the name of an environment variable"),
    ("a list of keys", {}, [f'models.base.api_key_env=["{KEY}"]'], "models.base.api_key_env: expected"),
    ("the key under its own name", {}, [f"models.base.api_key={KEY}"], "unknown configuration key models.base.api_key"),
    ("no equals sign", {}, ["models.base.api_key_env", KEY], "an override must look like"),
    ("the key for a number", {}, [f"models.base.max_inflight={KEY}"], "models.base.max_inflight"),
    ("the key for a table", {}, [f"models.base={KEY}"], "models.base"),
    ("a table in the key", {}, [f"name={KEY}", "name.x=1"], "is a value, not a table"),
    ("the key as user", {}, [f"models.base.base_url=https://{KEY}@127.0.0.1/v1"], "must hold no credentials"),
    ("the key as password", {}, [f"models.base.base_url=https://me:{KEY}@127.0.0.1/v1"], "must hold no credentials"),
    ("the key in a query", {}, [f"models.base.base_url=https://127.0.0.1/v1?key={KEY}"], "got a query"),
    ("the key behind a hash", {}, [f"models.base.base_url=https://127.0.0.1/v1#{KEY}"], "got a query"),
    ("the key as URL", {}, [f"models.base.base_url={KEY}"], "base_url must be"),
    ("the key as user of no scheme", {}, [f"embedder.base_url=me:{KEY}@127.0.0.1/v1"], "must hold no credentials"),
    ("the key in a path", {}, [f"models.base.base_url=https://127.0.0.1/{KEY}/v1"], "must hold no key"),
    ("the key as model", {}, [f"models.base.model={KEY}"], "must hold no key"),
    ("the key as name of the run", {}, [f"name={KEY}"], "must hold no key"),
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Give a place; nothing in it, and nothing that was said, may hold the key at the end."""
    place = Place(tmp_path, KEY)
    yield place
    assert place.leaks() == []


@pytest.mark.parametrize(("env", "overrides", "shows"), [one[1:] for one in MISTAKES], ids=[one[0] for one in MISTAKES])
def test_a_mistake_is_refused_before_anything_is_kept(
    place: Place, env: dict[str, str], overrides: list[str], shows: str
) -> None:
    place.env |= env
    with serve(api_key=KEY) as stub:
        assert shows in generate(place, write(place, stub.base_url), *overrides, expect=2)
        assert stub.calls == []
    assert not place.run.exists()


@pytest.mark.parametrize("make", [lambda: f"sk-{secrets.token_urlsafe(40)}", lambda: f"a{secrets.token_hex(24)}"])
def test_a_key_that_no_variable_holds_is_told_by_its_looks(tmp_path: Path, make: object) -> None:
    assert callable(make)
    place = Place(tmp_path, make())
    del place.env[VARIABLE]
    path = write(place, "http://127.0.0.1:9/v1", variable=place.key)
    assert "looks like a key" in generate(place, path, expect=2)
    assert "looks like a key" in place.sandplay("serve", path, "--key-env", place.key, "models.x.kind=vllm", expect=2)
    assert "looks like a key" in generate(place, path, place.key, expect=2)
    assert place.leaks() == []


def test_the_name_of_the_variable_is_what_is_kept(place: Place) -> None:
    with serve(api_key=KEY) as stub:
        generate(place, write(place, stub.base_url), *QUICK)
    kept = tomllib.loads((place.run / "config.toml").read_text("utf-8"))
    assert kept["models"]["base"]["api_key_env"] == kept["embedder"]["api_key_env"] == VARIABLE
