"""`sandplay serve` as a user runs it, on a really served model: asked by the `openai` package, ended by a signal."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from actors.models import prepare_model
from tests.actors.checkpoints import make_adapter
from tests.running import start

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]

KEY = "sk-of-the-test"
CONFIG = '[models.base]\nkind = "vllm"\nmax_model_len = 1024\nmax_num_seqs = 8\nkv_cache_gib = 0.5\n'
SMALL = ("models.base.max_model_len=1024", "models.base.max_num_seqs=8", "models.base.kv_cache_gib=0.5")
QUESTION: Any = [{"role": "user", "content": "Name one colour."}]


@contextmanager
def served(tmp_path: Path, *arguments: str | Path) -> Iterator[tuple[dict[str, Any], "subprocess.Popen[str]"]]:
    """Start a server; yield what it says of itself once it answers."""
    env = {"SANDPLAY_TEST_KEY": KEY}
    process = start("serve", *arguments, "--port", "0", "--key-env", "SANDPLAY_TEST_KEY", "--json", env=env)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield json.loads(line), process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def require_clean_end(process: "subprocess.Popen[str]") -> None:
    """It ends on a signal, with 0, and nothing of it is left."""
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert KEY not in out and KEY not in err
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive


def test_a_configuration_is_served_until_a_signal(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(CONFIG)
    with served(tmp_path, config) as (said, process):
        assert (said["model"], said["key_env"], said["max_model_len"]) == ("smollm2-135m", "SANDPLAY_TEST_KEY", 1024)
        assert said["url"].startswith("http://127.0.0.1:") and (Path(said["tokenizer"]) / "tokenizer.json").is_file()
        with openai.OpenAI(base_url=said["url"], api_key=KEY, max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["smollm2-135m", "base"]
            chat = client.chat.completions.create(
                model="base", messages=QUESTION, max_tokens=8, temperature=0, stream=True
            )
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chat)
            scored = client.completions.create(
                model=said["model"], prompt=["The sky is blue", "The sky is bone"], max_tokens=0, logprobs=1, echo=True
            )
        sums = [sum(choice.logprobs.token_logprobs[1:]) for choice in scored.choices if choice.logprobs]  # type: ignore[index, arg-type]
        assert sums[0] > sums[1]
        require_clean_end(process)


def test_an_adapter_is_served_upon_its_base(tmp_path: Path) -> None:
    adapter = make_adapter(prepare_model("smollm2-135m"), tmp_path / "r1")
    with served(tmp_path, adapter, *SMALL) as (said, process):
        assert said["model"] == "r1"
        with openai.OpenAI(base_url=said["url"], api_key=KEY, max_retries=0) as client:
            answer = client.chat.completions.create(model="r1", messages=QUESTION, max_tokens=4)
        assert answer.system_fingerprint == said["weights"]
        require_clean_end(process)
