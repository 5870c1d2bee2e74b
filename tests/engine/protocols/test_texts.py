from pathlib import Path

import pytest

from engine.errors import InputError
from engine.protocols.counseling import CATALOG as COUNSELING
from engine.protocols.mental_arena.prompts import CATALOG
from engine.protocols.mental_arena.rules import ArenaRules
from engine.protocols.texts import Catalog
from tests.engine.protocols.driving import asked, play, prompt


def make_catalog(tmp_path: Path, **texts: str) -> Catalog:
    (tmp_path / "shipped").mkdir()
    for name, text in texts.items():
        (tmp_path / "shipped" / f"{name}.txt").write_text(text)
    return Catalog(tmp_path / "shipped", dict.fromkeys(texts, frozenset({"name", "items"})))


@pytest.mark.parametrize("catalog", [CATALOG, COUNSELING])
def test_shipped_texts_compile_and_every_file_is_declared(catalog: Catalog) -> None:
    catalog.load()
    assert sorted(path.name for path in catalog.directory.glob("*.txt")) == [path.name for path in catalog.paths]


def test_every_declared_placeholder_of_mental_arena_is_used() -> None:
    for name, known in CATALOG.placeholders.items():
        source = (CATALOG.directory / f"{name}.txt").read_text()
        assert all(word in source for word in known), name


def test_one_file_of_an_override_replaces_one_text(tmp_path: Path) -> None:
    (tmp_path / "therapist.txt").write_text("You are a barber. Use {{ sentences }} sentences.")
    dialogue = play(ArenaRules(similarity=0.9, reply_sentences=2), prompts=tmp_path)
    assert "You are a barber. Use 2 sentences." in prompt(asked(dialogue, "plan")[0])
    assert "Use at most 2 sentences." in prompt(asked(dialogue, "opening")[0])


def test_problems_name_file_and_line_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "therapist.txt").write_text("one\n\nUse {{ sentense }} of them\n{{ nobody }}")
    (tmp_path / "judge.txt").write_text("{% if x %}\nnever closed")
    (tmp_path / "therapst.txt").write_text("typo")
    (tmp_path / "score.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError) as refused:
        CATALOG.load(tmp_path)
    problems = "\n".join(refused.value.problems)
    assert f"{tmp_path}/therapist.txt:3: placeholder must be one of sentences, got 'sentense'" in problems
    assert f"{tmp_path}/therapist.txt:4:" in problems and f"{tmp_path}/judge.txt:2:" in problems
    assert "therapst.txt: must be named after one of the protocol's texts" in problems
    assert "score.txt: must be a readable UTF-8 text" in problems


def test_a_missing_file_or_directory_is_refused(tmp_path: Path) -> None:
    catalog = make_catalog(tmp_path, one="a")
    (tmp_path / "shipped" / "one.txt").unlink()
    with pytest.raises(InputError, match=r"one\.txt: must be a readable UTF-8 text, got FileNotFoundError"):
        catalog.load()
    with pytest.raises(InputError, match="prompts must be a directory"):
        CATALOG.load(tmp_path / "absent")


def test_what_is_filled_in_is_never_a_template(tmp_path: Path) -> None:
    texts = make_catalog(tmp_path, one="Hello {{ name }}").load()
    assert texts.render("one", name="{{ 7 * 7 }}{% for %}") == "Hello {{ 7 * 7 }}{% for %}"


def test_templates_are_sandboxed(tmp_path: Path) -> None:
    from jinja2.exceptions import SecurityError

    texts = make_catalog(tmp_path, one="{{ name.__class__.__mro__ }}").load()
    with pytest.raises(SecurityError):
        texts.render("one", name="x")


def test_texts_are_compiled_once() -> None:
    assert CATALOG.load() is CATALOG.load()


def test_a_shared_text_is_rendered_once_per_distinct_values(tmp_path: Path) -> None:
    texts = make_catalog(tmp_path, greeting="Hello {{ name }}.").load()
    first = texts.shared("greeting", name="Ann")
    assert first == texts.render("greeting", name="Ann") == "Hello Ann."
    assert texts.shared("greeting", name="Ann") is first
    assert texts.shared("greeting", name="Ben") == "Hello Ben."
