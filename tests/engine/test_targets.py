"""Targets: what is refused by its looks, whole files on a local folder, an object store and other file systems."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import _MockFileSystem

from engine.errors import InputError
from engine.targets import Target, is_uri, retried, target_problems, uri_inside
from tests.s3_stub import KEYS, Store, serve_store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with serve_store() as served:
        yield served


@pytest.mark.parametrize("uri", ["s3://bucket/runs", "gs://bucket", "file:///data/runs", "hdfs://name:8020/runs"])
def test_folders_of_stores_and_file_systems_are_targets(uri: str) -> None:
    assert target_problems("corpus.target", uri, {"region": "eu-central-1"}) == []


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("runs", "must be a URI of s3, gs, gcs, abfs, abfss, hdfs, viewfs, file, got runs: such as s3://bucket/prefix"),
        ("ftp://host/runs", "must be a URI of s3"),
        ("hf://org/name", "must be a URI of s3"),
        ("s3:///runs", "must be a bucket and a folder in it"),
        ("s3://bucket/runs#part", "must be a bucket and a folder in it"),
        ("s3://[bucket/runs", "that cannot be read"),
    ],
)
def test_anything_else_is_refused(uri: str, said: str) -> None:
    (problem,) = target_problems("corpus.target", uri, {})
    assert problem.startswith("corpus.target must be a") and said in problem


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("s3://hush:hush@bucket/runs", {}),
        ("s3://hush@bucket/runs", {}),
        ("s3://bucket/runs?access_key=hush&secret_key=hush", {}),
        ("s3://bucket/runs", {"session_token": "hush"}),
        ("hdfs://hush:hush@name:8020/runs", {"Password": "hush"}),
    ],
)
def test_credentials_are_refused_and_never_shown(uri: str, options: dict[str, str]) -> None:
    problems = target_problems("corpus.target", uri, options)
    assert problems and all("credentials come from the environment" in problem for problem in problems)
    assert not any("hush" in problem for problem in problems)
    with pytest.raises(InputError) as refused:
        Target.open(uri, options)
    assert "hush" not in str(refused.value)


def test_a_folder_in_a_folder_keeps_the_options() -> None:
    assert uri_inside("s3://b/runs/?region=x", "my rounds") == "s3://b/runs/my%20rounds?region=x"
    assert uri_inside("s3://b", "r") == "s3://b/r"
    assert is_uri("s3://b") and not is_uri("runs/first")


def check_whole_files(target: Target) -> None:
    assert target.sizes() == {} == target.sizes("episodes")
    with pytest.raises(FileNotFoundError):
        target.get("config.toml")
    big = bytes(range(256)) * (6 << 12)  # more than one request holds
    for name, data in (("config.toml", b"old"), ("config.toml", b"newer"), ("episodes/a", big), ("inputs/x y", b"")):
        target.put(name, data)
    assert target.sizes() == {"config.toml": 5, "episodes/a": len(big), "inputs/x y": 0}
    assert target.sizes("episodes") == {"a": len(big)}
    assert (target.get("config.toml"), target.get("episodes/a"), target.get("inputs/x y")) == (b"newer", big, b"")


def test_a_local_folder(tmp_path: Path) -> None:
    target = Target.open((tmp_path / "far away").as_uri()).inside("run 1")
    assert target.place.endswith("/far%20away/run%201")
    check_whole_files(target)
    assert (tmp_path / "far away" / "run 1" / "config.toml").stat().st_mode & 0o777 == 0o600


def test_an_object_store(store: Store) -> None:
    check_whole_files(Target.open(store.uri("bucket/all")).inside("run 1"))
    assert set(store.objects) == {f"bucket/all/run 1/{name}" for name in ("config.toml", "episodes/a", "inputs/x y")}
    assert store.uploads == {}


def test_a_file_system_that_renames() -> None:
    check_whole_files(Target(_MockFileSystem(), "all/run", "mock://all/run"))


def test_options_may_stand_beside_the_uri(store: Store) -> None:
    options = dict(pair.split("=") for pair in store.options.split("&"))
    Target.open("s3://bucket/runs", options).put("a", b"1")
    assert store.objects == {"bucket/runs/a": b"1"}


def test_what_pyarrow_does_not_take_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="s3://bucket/runs must be a target that pyarrow takes, got .*'colour'"):
        Target.open("s3://bucket/runs?region=x", {"colour": "red"})


@pytest.mark.parametrize("status", [403, 0])
def test_a_store_that_says_no_or_nothing_is_an_error_of_the_system(store: Store, status: int) -> None:
    target = Target.open(store.uri("bucket/runs"))
    store.fault = lambda method, key: status
    for call in (lambda: target.put("a", b"1"), lambda: target.get("a"), target.sizes):
        with pytest.raises(OSError):
            call()


def test_a_call_is_tried_a_few_times_while_that_makes_sense(store: Store) -> None:
    target = Target.open(store.uri("bucket/runs"))
    tried: list[str] = []

    def fault(method: str, key: str) -> int | None:
        tried.append(key)
        return 403 if len(tried) < 3 else None

    store.fault = fault
    retried(lambda: target.put("a", b"1"))
    assert store.objects == {"bucket/runs/a": b"1"}
    tried.clear()
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        retried(lambda: target.put("b", b"1"), lambda: False)
    assert len(tried) == 1
    with pytest.raises(ZeroDivisionError):
        retried(lambda: 1 // 0)
