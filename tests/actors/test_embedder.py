"""The embedder on the real MiniLM model; the actor runs in a real Ray."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from actors.embedder import LocalEmbedder, embed_texts, identify_embedder, prepare_embedder
from actors.processes import ProcessTable, find_process
from actors.spec import RaySpec
from engine.backend import EmbeddingFailed
from engine.errors import InputError

CLOSE = ("The patient cannot fall asleep.", "Sam has trouble sleeping.")
FAR = ("The patient cannot fall asleep.", "The stock market rose on Monday.")
ray_based = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEmbedder]:
    table = ProcessTable(tmp_path_factory.mktemp("embedder") / "processes.json")
    made = LocalEmbedder("minilm", RaySpec(), table, lambda _text: None)
    await made.start()
    yield made
    await made.close()
    assert table.records == ()


def test_vectors_are_of_unit_length() -> None:
    vectors = embed_texts("minilm", ["one", "two words", ""])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_plain_encoder_directory_is_averaged(tmp_path: Path) -> None:
    plain = tmp_path / "plain-bert"
    plain.mkdir()
    source = prepare_embedder("minilm")
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(source / file, plain / file)
    texts = ["The patient cannot fall asleep.", "Sam has trouble sleeping."]
    # MiniLM averages token vectors too, so the fallback must give the same.
    assert embed_texts(str(plain), texts) == pytest.approx(embed_texts("minilm", texts), abs=1e-4)


def test_the_identity_follows_the_weights(tmp_path: Path) -> None:
    other = Path(shutil.copytree(prepare_embedder("minilm"), tmp_path / "minilm"))
    assert identify_embedder("minilm") == identify_embedder(str(other))
    (other / "model.safetensors").write_bytes(b"other")
    assert identify_embedder("minilm") != identify_embedder(str(other))


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"\.safetensors"):
        prepare_embedder(str(tmp_path))


@ray_based
async def test_near_texts_are_nearer_than_far_ones(embedder: LocalEmbedder) -> None:
    close, far, same = await embedder.similarities([CLOSE, FAR, (CLOSE[0], CLOSE[0])])
    assert close > 0.5 > far
    assert same == pytest.approx(1.0, abs=1e-5)


@ray_based
async def test_an_empty_text_is_like_nothing(embedder: LocalEmbedder) -> None:
    assert await embedder.similarities([("", "a"), ("a", " \n"), ("", "")]) == (0.0, 0.0, 0.0)
    assert await embedder.similarities([]) == ()


@ray_based
async def test_many_callers_share_batches_and_get_their_own_answers(embedder: LocalEmbedder) -> None:
    texts = [f"text number {i}" for i in range(150)]
    answers = await asyncio.gather(*(embedder.similarities([(text, texts[0])]) for text in texts))
    vectors = embed_texts("minilm", texts)
    assert [answer[0] for answer in answers] == pytest.approx(list(vectors @ vectors[0]), abs=1e-4)


@ray_based
async def test_a_dead_actor_is_replaced_once_and_asked_again(embedder: LocalEmbedder) -> None:
    (record, *_) = embedder._processes.of(embedder._record)
    process = find_process(record)
    assert process is not None
    process.kill()
    (value,) = await embedder.similarities([("a fresh text", "another fresh text")])
    assert -1 <= value <= 1
    assert embedder._processes.of(embedder._record)[0].pid != record.pid


@ray_based
async def test_a_hanging_actor_is_replaced(embedder: LocalEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    (record, *_) = embedder._processes.of(embedder._record)
    process = find_process(record)
    assert process is not None
    monkeypatch.setattr(embedder, "_call_timeout_s", 20.0)
    process.suspend()
    await embedder.similarities([("text for a stopped actor", "x")])
    assert find_process(record) is None


async def test_an_embedder_that_was_not_started_fails_with_a_kind(tmp_path: Path) -> None:
    idle = LocalEmbedder("minilm", RaySpec(), ProcessTable(tmp_path / "p.json"), lambda _text: None)
    assert idle.identity.startswith("minilm@")
    with pytest.raises(EmbeddingFailed) as failed:
        await idle.similarities([("a", "b")])
    assert failed.value.failure.kind == "replica_lost"
    await idle.close()
