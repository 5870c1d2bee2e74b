"""Samples and settings that the API would refuse: refused before it is asked, all at once."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import InputError
from tests.training.tuning import make_job, make_row, play
from tests.tuning_stub import serve_tuning
from training.openai_tuning import TuningJob, TuningSettings
from training.sample_log import Mark, SampleWriter


def write_log(path: Path, *rows: Any) -> Path:
    writer = SampleWriter.open(path)
    writer.append(rows, Mark())
    writer.close(is_finished=True)
    return path


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": [], "completion": []}, "it must have messages, got prompt, completion"),
        ({"messages": []}, "it must have messages"),
        (["no object"], "it must have messages, got nothing"),
        (chat(("system", "Be kind."), ("user", "Hello.")), "the last message must be the assistant's, got the user's"),
        (
            chat(("tool", "42"), ("assistant", "Yes.")),
            "message 1 must have the role system, user or assistant, got 'too",
        ),
        (
            chat((["x"], "42"), ("assistant", "Yes.")),
            "message 1 must have the role system, user or assistant, got list",
        ),
        (chat(("user", None), ("assistant", "Yes.")), "message 1 must have text as content, got NoneType"),
        (chat(("user", "Hi."), ("assistant", " \n")), "message 2 must say something, because it is taught"),
        ({"messages": ["Hello."]}, "message 1 must have the role"),
    ],
)
async def test_rows_that_the_api_would_refuse(tmp_path: Path, row: Any, problem: str) -> None:
    samples = write_log(tmp_path / "samples.jsonl", *map(make_row, range(10)), row)
    with serve_tuning() as stub, pytest.raises(InputError) as refused:
        await play(make_job(stub, tmp_path, samples=str(samples)))
    assert str(refused.value).startswith(f"{samples} row 11: {problem}")
    assert stub.calls == []


async def test_all_problems_of_all_rows_at_once(tmp_path: Path) -> None:
    bad = chat(("user", "Hello."))
    samples = write_log(tmp_path / "samples.jsonl", *[bad] * 9)
    held_out = tmp_path / "held_out.jsonl"
    SampleWriter.open(held_out).close(is_finished=False)
    with serve_tuning() as stub, pytest.raises(InputError) as refused:
        await play(make_job(stub, tmp_path, samples=str(samples), held_out=str(held_out)))
    problems = refused.value.problems
    assert f"{samples} must hold at least 10 rows, got 9: play more cases" in problems
    assert f"{held_out} must be a closed sample log, got one that still grows: let its writer finish" in problems
    assert f"{held_out} must hold at least 1 rows, got 0: play more cases" in problems
    assert sum("the last message must be" in problem for problem in problems) == 9
    assert stub.calls == [] and not list((tmp_path / "tuning").glob("*.jsonl"))


async def test_settings_and_addresses_are_checked_together(tmp_path: Path) -> None:
    settings = TuningSettings(epochs=0, batch_size=300, learning_rate_multiplier=0, suffix="a b", seed=-1, poll_s=-1)
    job = TuningJob(model="", samples="", directory=str(tmp_path / "t"), base_url="ftp://x", api_key_env=None)
    with pytest.raises(InputError) as refused:
        await play(msgspec.structs.replace(job, settings=msgspec.structs.replace(settings, max_wait_s=float("nan"))))
    names = ("epochs", "batch_size", "learning_rate_multiplier", "suffix", "seed", "poll_s", "max_wait_s")
    assert [problem.split()[0] for problem in refused.value.problems] == [
        *(f"tuning.{name}" for name in names),
        *("the", "base_url"),
    ]
    assert all(", got " in problem for problem in refused.value.problems)
    assert not (tmp_path / "t").exists()
    with pytest.raises(InputError, match="must be a sample log, got no file"):
        await play(msgspec.structs.replace(job, model="m", base_url="http://127.0.0.1:1/v1"))
