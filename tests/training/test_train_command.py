"""`sandplay train` as it is typed: chats to a checkpoint that may be served; what is refused; asked again."""

from pathlib import Path
from typing import Any

import pytest

from engine.checkpoints import verify
from tests.running import run, run_json
from tests.tiny_model import write_tiny_model
from tests.training.jobs import make_chat
from tests.training.records import FIELDS, write_records
from training.data import read_mark, write_log
from training.settings import SampleSettings

CONFIG = """
name = "any"
[scheduler]
max_live = 4
[models.base]
kind = "vllm"
model = "{model}"
[models.judge]
kind = "openai"
model = "far away"
[training]
rank = 8
learning_rate = 5e-3
max_length = 256
log_every = 2
"""


def write_config(directory: Path, model: str) -> Path:
    path = directory / "config.toml"
    path.write_text(CONFIG.format(model=model), "utf-8")
    return path


@pytest.mark.timeout(600)
def test_chats_become_a_checkpoint_once(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "tiny")
    config = write_config(tmp_path, str(model))
    chats = write_records(tmp_path / "chats.jsonl", *(make_chat(number) for number in range(12)))
    held_out = write_records(tmp_path / "more.jsonl", *(make_chat(number) for number in range(12, 16)))
    words: list[Any] = ["train", config, "--data", chats, "--held-out", held_out, "--to", tmp_path / "out"]
    found = run_json(*words, "training.epochs=2")
    assert (found["num_steps"], found["num_rows"]) == (6, 24)
    assert found["kind"] == "lora" and found["held_out_after"] < found["held_out_before"]
    place = Path(found["checkpoint"])
    assert place.parent == tmp_path / "out" / "checkpoints" and place.name == found["version"]
    checkpoint = verify(place, model)
    assert checkpoint.lineage.corpus and checkpoint.lineage.config and checkpoint.made_at > 0
    # Asked again, nothing that costs is done: the workers' process tree would take longer than this to start.
    said = run(*words, "training.epochs=2", timeout_s=60)
    assert f"checkpoint {found['version']} (lora): {place}" in said and "6 steps on 24 rows" in said
    assert "sandplay swap RUN" in said
    said = run(*words, "training.epochs=3", expect=2)
    assert "settings.epochs was 2, got 3: use a new directory" in said
    other = write_records(tmp_path / "other.jsonl", make_chat(1))
    said = run("train", config, "--data", other, "--to", tmp_path / "out", expect=2)
    assert "holds samples of another request: data was" in said


def test_what_is_wrong_is_named_all_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path, "smollm2-135m")
    said = run("train", config, "training.rnak=3", "samples.near=2", "--held-out", tmp_path / "gone", expect=2)
    assert "unknown configuration key training.rnak: did you mean training.rank?" in said
    assert "the samples are missing: give --data DIR|FILE" in said and "gone: correct it" in said
    chats = write_records(tmp_path / "chats.jsonl", make_chat(0), {"messages": [{"role": "x"}]}, 7)
    words: list[Any] = ["train", config, "--data", chats, "--to", tmp_path / "out"]
    said = run(*words, "training.rank=0", 'samples.kinds=["plan"]', "--model", "judge", expect=2)
    assert "training.rank must be at least 1, got 0" in said and "must not have 'plan'" in said
    assert "--model must name a model of kind vllm, got 'judge': there are base" in said
    said = run(*words, expect=2)
    assert "chats.jsonl:2: must be a chat" in said and "chats.jsonl:3: must be a chat" in said
    assert not (tmp_path / "out" / "samples.jsonl").exists()


def test_records_become_a_log_of_what_is_left(tmp_path: Path) -> None:
    records = write_records(tmp_path / "records.jsonl", FIELDS, FIELDS)
    mark = write_log(records, tmp_path / "log.jsonl", SampleSettings(), len)
    assert mark == read_mark(tmp_path / "log.jsonl") and mark.is_closed and mark.num_samples == 2
    assert mark.kept == {"diagnosis": 1, "treatment": 1} and mark.dropped == {"empty": 2, "duplicate": 2}
    mark = write_log(records, tmp_path / "legacy.jsonl", SampleSettings(legacy=True), len)
    assert mark.num_samples == 4


def test_nothing_left_is_refused(tmp_path: Path) -> None:
    from engine.errors import InputError

    records = write_records(tmp_path / "records.jsonl", FIELDS)
    with pytest.raises(InputError, match=r"must give at least one row, got none \(1 empty dropped\)"):
        write_log(records, tmp_path / "log.jsonl", SampleSettings(kinds=("medication",)), len)
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"]
