"""Where texts go by a configuration and a protocol, and what is refused of it; the file that keeps it."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.config import Config, load
from engine.egress import HERE, embedder_outlet, outlets, outside, refusals, tuning_outlet
from engine.egress_log import FILE, note_egress, read_egress
from engine.errors import JournalError
from engine.protocol import ProtocolSpec, Sight, find_protocol, protocol

ARENA = find_protocol("mental_arena", Path())
HOSTED = {"kind": "openai", "model": "big", "base_url": "https://models.example:8443/v1"}
BESIDE = "https://ann:secret@models.example:8443/v1"
"""No configuration with credentials is loaded; were there one, none of them would be shown."""


def make(spec: ProtocolSpec = ARENA, **tables: Any) -> list[Any]:
    models = {"here": {"kind": "vllm"}, "gate": {**HOSTED, "base_url": "http://127.0.0.1:8000/v1"}, "there": HOSTED}
    roles = {"patient": "here", "therapist": "gate", "judge": "there"}
    return outlets(at(load({"models": models, "roles": roles, **tables}), "there", BESIDE), spec)


def at(config: Config, name: str, url: str) -> Config:
    """Return a configuration with a model at another address, unchecked."""
    if name not in config.models:
        return config
    moved = msgspec.structs.replace(config.models[name], base_url=url)
    return msgspec.structs.replace(config, models={**config.models, name: moved})


def test_each_role_and_the_embedder_have_a_place() -> None:
    found = make(embedder={"kind": "openai", "base_url": "https://vectors.example/v1"})
    assert [(one.who, one.model, one.host, one.is_inside) for one in found] == [
        ("role patient", "smollm2-135m", HERE, True),
        ("role therapist", "big", "127.0.0.1", True),
        ("role judge", "big", "models.example", False),
        ("embedder", "minilm", "vectors.example", False),
    ]
    assert outside(found) == ["models.example", "vectors.example"]
    assert "secret" not in repr(found)


def test_a_cluster_of_ours_is_inside() -> None:
    patient, _, _, embedder = make(ray={"address": "10.0.0.1:6379"})
    assert patient.host == embedder.host == "the cluster at 10.0.0.1:6379"
    assert patient.is_inside and embedder.is_inside


def test_a_refusal_names_role_host_what_is_seen_and_the_remedy() -> None:
    (said,) = refusals(make(), "refuse")
    for part in ("role judge must be", "models.there.base_url", "models.example", "hidden fields", "privacy.egress"):
        assert part in said
    assert "secret" not in said and refusals(make(), "allow") == []


def test_all_that_leaves_is_refused_at_once() -> None:
    roles = dict.fromkeys(("patient", "therapist", "judge"), "there")
    assert len(refusals(make(roles=roles, embedder={"kind": "openai"}), "refuse")) == 4


def test_a_host_that_cannot_be_read_is_outside() -> None:
    (found, *_) = outlets(at(load({"models": {"x": HOSTED}, "roles": {"patient": "x"}}), "x", "http://[::1"), ARENA)
    assert (found.host, found.is_inside) == ("a host that cannot be read", False)


def test_training_elsewhere_is_an_outlet_that_sees_everything() -> None:
    config = load({"models": {"there": HOSTED}, "roles": {"patient": "there"}})
    found = tuning_outlet(config, "there")
    assert (found.who, found.host, found.sees.hidden, found.sees.transcript) == (
        "fine-tuning",
        "models.example",
        True,
        True,
    )


def test_a_protocol_that_says_nothing_shows_everything() -> None:
    @protocol(roles=("patient", "therapist"))
    def silent(case: Any, rules: Any) -> Any: ...

    @protocol(roles=("patient",), sees={"patient": Sight(hidden=False)})
    def spoken(case: Any, rules: Any) -> Any: ...

    assert silent.sight("therapist") == Sight() and Sight().hidden and Sight().transcript
    assert not spoken.sight("patient").hidden
    assert Sight(hidden=False, transcript=False).words == "nothing of the case"
    assert Sight(transcript=False, note="plans").words == "hidden fields, plans"


def test_a_line_is_kept_for_each_time_that_it_changed(tmp_path: Path) -> None:
    assert read_egress(tmp_path) == []
    first, other = make(), make(embedder={"kind": "openai"})
    for moment, (egress, found) in enumerate([("allow", first), ("allow", first), ("allow", other), ("refuse", other)]):
        note_egress(tmp_path, egress, found, moment)
    kept = read_egress(tmp_path)
    assert [(one.at, one.egress, len(outside(one.outlets))) for one in kept] == [
        (0, "allow", 1),
        (2, "allow", 2),
        (3, "refuse", 2),
    ]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert b"secret" not in (tmp_path / FILE).read_bytes()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"{}\n")
    with pytest.raises(JournalError, match=FILE):
        read_egress(tmp_path)


def test_an_embedder_by_itself_is_judged_alike() -> None:
    config = load({"models": {"a": {}}, "embedder": {"kind": "openai"}})
    assert not embedder_outlet(config.embedder, Sight()).is_inside
    assert embedder_outlet(load({"models": {"a": {}}}).embedder, Sight()).is_inside


@pytest.mark.parametrize(
    ("uri", "options", "host", "is_inside"),
    [
        ("file:///mnt/runs", {}, HERE, True),
        ("s3://bucket/runs", {}, "bucket", False),
        ("s3://localhost/runs", {}, "localhost", False),
        ("s3://bucket/runs?endpoint_override=127.0.0.1:9000&scheme=http", {}, "127.0.0.1:9000", True),
        ("s3://bucket/runs", {"endpoint_override": "minio.example:9000"}, "minio.example:9000", False),
        (
            "s3://bucket/runs?endpoint_override=127.0.0.1:9000",
            {"endpoint_override": "minio.example"},
            "127.0.0.1:9000, minio.example",
            False,
        ),
        ("hdfs://name.example:8020/runs", {}, "name.example:8020", False),
        ("hdfs://localhost:8020/runs", {}, "localhost:8020", True),
    ],
)
def test_a_target_is_an_outlet_that_sees_whole_episodes(
    uri: str, options: dict[str, str], host: str, is_inside: bool
) -> None:
    copy = make(corpus={"target": uri, "target_options": options})[-1]
    assert (copy.who, copy.host, copy.is_inside) == ("the copy", host, is_inside)
    assert "hidden fields, transcript, whole episodes" in copy.sees.words
    said = refusals([copy], "refuse")
    assert said == [] if is_inside else "the copy must be kept on this machine" in said[0] and host in said[0]
