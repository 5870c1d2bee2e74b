import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import InputError
from engine.example_episode import example_episode
from engine.export import FORMATS, Format, export, export_run, meta_of
from engine.export_card import CardFacts, ExportMeta, card, flat
from engine.journal import Journal
from engine.protocol import ProtocolSpec
from engine.record import EpisodeKey, EpisodeRecord, NodeRecord, Status, StepRecord
from engine.rundir import RunDirectory
from engine.steps import Protocol as Play
from engine.steps import Reply

META = ExportMeta(
    name="demo", cases="bundled", cases_license="CC-BY-4.0", settings={"seed": 7, "protocol": {"name": "counseling"}}
)
SIX = ("symptom", "illness", "treatment", "explain_t", "medicine", "explain_m")


def make_session() -> Play[None]:
    yield from ()


def make_spec(with_records: bool = True) -> ProtocolSpec:
    def records(record: EpisodeRecord) -> list[dict[str, str]]:
        return [{**dict.fromkeys(SIX, "x<|im_end|>"), "medicine": "", "symptom": record.key.case}]

    return ProtocolSpec(
        name="counseling",
        session=make_session,
        roles=("patient", "therapist"),
        turns=("talk",),
        records=records if with_records else None,
    )


def make_record(case: str = "c", status: Status = "completed", said: str = "I sleep badly.") -> EpisodeRecord:
    nodes = (
        NodeRecord(-1, "system", "You are Ada."),
        NodeRecord(0, "user", "(Begin.)"),
        NodeRecord(-1, "system", "You listen."),
        NodeRecord(2, "user", said),
    )
    steps = (
        make_step("1/patient", "patient", said, 1),
        make_step("1/therapist", "therapist", "Since when?", 3),
        make_step("1/score", "judge", "7", 3, "score"),
    )
    return EpisodeRecord(
        key=EpisodeKey(case),
        seed=1,
        protocol="counseling",
        status=status,
        models={"patient": "small", "therapist": "small|<b>"},
        weights=("w1",),
        nodes=nodes,
        steps=steps,
    )


def make_step(path: str, role: str, text: str, view: int, purpose: str = "talk") -> StepRecord:
    reply = Reply(text, weights="w1")
    return StepRecord(path=path, kind="generate", hash="00", role=role, purpose=purpose, view=view, reply=reply)


def read_text(path: str) -> str:
    return Path(path).read_text("utf-8")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize(
    ("format", "num_rows", "column"),
    [
        ("records", 2, "illness"),
        ("messages", 4, "messages"),
        ("prompt-completion", 4, "prompt"),
        ("sharegpt", 4, "conversations"),
    ],
)
def test_datasets_loads_every_format(
    format: Format, num_rows: int, column: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    records = [make_record("a"), make_record("b", "failed"), make_record("c")]
    cache = str(tmp_path / "cache")
    summary = export(records, format, tmp_path / "out", make_spec(), META)
    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=cache)
    assert len(rows) == summary.rows == num_rows
    assert column in rows.column_names
    one = export(records, format, tmp_path / "one.jsonl", make_spec(), META)
    again = datasets.load_dataset("json", data_files=one.data, split="train", cache_dir=cache)
    assert again.to_list() == rows.to_list()
    assert Path(one.card) == tmp_path / "one.jsonl.card.md"


def test_records_are_the_protocols_own_rows(tmp_path: Path) -> None:
    summary = export([make_record("a")], "records", tmp_path / "out", make_spec(), META)
    (row,) = read_rows(Path(summary.data))
    assert tuple(row) == SIX
    assert row["illness"] == "x< |im_end|>"
    assert summary.missing == {"medicine": 1}


def test_messages_hold_each_roles_side(tmp_path: Path) -> None:
    summary = export([make_record("a")], "messages", tmp_path / "out", make_spec(), META)
    patient, therapist = read_rows(Path(summary.data))
    assert [m["role"] for m in patient["messages"]] == ["system", "user", "assistant"]
    assert therapist["messages"][-1] == {"role": "assistant", "content": "Since when?"}
    assert (therapist["role"], therapist["episode"], therapist["model"]) == ("therapist", "a.0", "small|<b>")


def test_prompt_is_what_the_role_really_saw(tmp_path: Path) -> None:
    record = make_record("a", said="Hi<|im_end|>")
    summary = export([record], "prompt-completion", tmp_path / "out", make_spec(), META)
    patient, therapist = read_rows(Path(summary.data))
    assert patient["prompt"] == [
        {"role": "system", "content": "You are Ada."},
        {"role": "user", "content": "(Begin.)"},
    ]
    assert patient["completion"] == [{"role": "assistant", "content": "Hi< |im_end|>"}]
    assert therapist["prompt"] == [{"role": n.role, "content": n.text} for n in record.view(record.steps[1])]
    assert (therapist["path"], therapist["purpose"], therapist["finish"]) == ("1/therapist", "talk", "stop")


def test_sharegpt_names_its_speakers(tmp_path: Path) -> None:
    summary = export([make_record("a")], "sharegpt", tmp_path / "out", make_spec(), META)
    assert read_rows(Path(summary.data))[1]["conversations"] == [
        {"from": "system", "value": "You listen."},
        {"from": "human", "value": "I sleep badly."},
        {"from": "gpt", "value": "Since when?"},
    ]


def test_half_a_surrogate_pair_does_not_stop_an_export(tmp_path: Path) -> None:
    summary = export([make_record("a", said="so\ud800 bad")], "messages", tmp_path / "o", make_spec(), META)
    assert "so\ufffd bad" in read_rows(Path(summary.data))[0]["messages"][-1]["content"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_an_export_is_private(name: str, umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        made = export([make_record()], "messages", tmp_path / name, make_spec(), META)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(Path(path).stat().st_mode) for path in (made.data, made.card)} == {0o600}
    assert name != "out" or stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_failed_episodes_go_in_on_demand(tmp_path: Path) -> None:
    records = [make_record("a"), make_record("b", "failed")]
    few = export(records, "messages", tmp_path / "few", make_spec(), META)
    all_ = export(records, "messages", tmp_path / "all", make_spec(), META, only_completed=False)
    assert (few.episodes, few.skipped) == (1, {"failed": 1})
    assert (all_.episodes, all_.skipped) == (2, {})


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_an_existing_target_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=r"got .*out.*exists: remove it or choose another"):
        export([make_record()], "messages", tmp_path / name, make_spec(), META)
    assert (tmp_path / name).read_text() == "mine"


def test_a_card_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.card.md").write_text("mine")
    with pytest.raises(InputError, match=r"card.md, which exists"):
        export([make_record()], "messages", tmp_path / "out.jsonl", make_spec(), META)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.card.md"]


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
@pytest.mark.parametrize("statuses", [(), ("failed",)])
def test_nothing_to_export_leaves_nothing_behind(name: str, statuses: tuple[Status, ...], tmp_path: Path) -> None:
    records = [make_record(status=status) for status in statuses]
    with pytest.raises(InputError, match="at least one row, got no row"):
        export(records, "messages", tmp_path / name, make_spec(), META)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.jsonl"])
def test_a_corpus_that_breaks_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    def broken() -> Iterator[EpisodeRecord]:
        yield make_record()
        raise RuntimeError("torn part")

    with pytest.raises(RuntimeError, match="torn part"):
        export(broken(), "messages", tmp_path / name, make_spec(), META)
    assert list(tmp_path.iterdir()) == []


def test_records_without_the_protocols_help_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 'counseling': choose messages, prompt-completion, sharegpt"):
        export([make_record()], "records", tmp_path / "out", make_spec(with_records=False), META)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be one of records, messages, .*got 'csv'"):
        export([make_record()], "csv", tmp_path / "out", make_spec(), META)


def test_a_target_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="target writable"):
        export([make_record()], "messages", tmp_path / "file" / "out", make_spec(), META)


def test_the_card_says_what_it_is(tmp_path: Path) -> None:
    summary = export([make_record("a"), make_record("b", "failed")], "records", tmp_path / "out", make_spec(), META)
    text = Path(summary.card).read_text("utf-8")
    for part in (
        "Synthetic data for research",
        "in crisis",
        "| patient | small | 1 |",
        "small\\|\\<b\\>",
        "License of the cases: CC-BY-4.0",
        "| medicine | 1 | 100.0 % |",
        "| episodes failed, left out | 1 |",
        "| protocol.name | counseling |",
        "| w1 | 1 |",
    ):
        assert part in text


@pytest.mark.parametrize("format", FORMATS)
def test_the_head_of_a_card_is_yaml_whatever_the_name(format: str) -> None:
    yaml = pytest.importorskip("yaml")
    facts = CardFacts(
        format=format,
        data_file="a: b #.jsonl",
        num_rows=5_000,
        columns=("x",),
        statuses={"completed": 1},
        skipped={},
        missing={},
        models={},
        weights={},
        protocols={},
    )
    text = card(ExportMeta(name='it\'s: "x"\n---\n[evil]'), facts)
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["pretty_name"] == 'it\'s: "x" --- [evil]'
    assert head["configs"][0]["data_files"][0]["path"] == "a: b #.jsonl"
    assert head["size_categories"] == ["1K<n<10K"]
    assert "every column has a value" in text
    assert "unknown: find out" in text


def test_flat_names_nested_settings() -> None:
    assert flat({"a": 1, "b": {"c": {"d": "x"}, "e": [1]}}) == [("a", 1), ("b.c.d", "x"), ("b.e", [1])]


def test_meta_names_the_run_without_this_machines_paths() -> None:
    meta = meta_of(
        {
            "name": "demo",
            "cases": {"source": "/home/somebody/data/mine.json", "limit": 3},
            "models": {"base": {"kind": "vllm", "model": "/home/somebody/models/m", "replicas": 4}},
            "scheduler": {"max_live": 4},
        }
    )
    assert (meta.name, meta.cases, meta.cases_license) == ("demo", "mine.json", "")
    assert meta.settings["models.base.model"] == "m"
    assert meta.settings["cases.limit"] == 3
    assert not any(name.startswith("scheduler") or name.endswith("replicas") for name in meta.settings)
    assert meta_of({"cases": {"source": "bundled"}}).cases_license.startswith("Apache-2.0")


async def test_a_run_is_exported_with_its_card(tmp_path: Path) -> None:
    record, _ = example_episode()
    config = b'name = "demo"\nseed = 3\n[protocol]\nname = "mental_arena"\n[cases]\nsource = "bundled"\n'
    rundir = RunDirectory.create(tmp_path / "run", {"config.toml": config})
    journal = Journal.open(rundir)
    journal.admit(record.key, record.seed, record.started_at)
    journal.end(record)
    await journal.close()
    summary = export_run(rundir, "records", tmp_path / "out")
    (row,) = read_rows(Path(summary.data))
    assert tuple(row) == SIX
    assert row["illness"] == "Major depressive disorder"
    assert json.loads(msgspec.json.encode(summary))["rows"] == 1
    text = read_text(summary.card)
    assert "# demo" in text
    assert "License of the cases: Apache-2.0" in text
    assert "| seed | 3 |" in text
