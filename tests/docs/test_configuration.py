"""The reference of the configuration: it is what the types say, whole and in a form that reads as a table."""

import re
from typing import Literal

import msgspec

from docs.configuration import ROOT, _tables, reference
from training.monitors import RoundFigures


class Inner(msgspec.Struct, kw_only=True):
    """One inside. `size` counts."""

    size: int = 3


class Outer(msgspec.Struct, kw_only=True):
    """One table."""

    path: str
    way: Literal["a", "b"] = "a"
    share: float | None = None
    parts: tuple[Inner, ...] = (Inner(),)
    named: dict[str, Inner] = {}


def test_the_page_in_the_repository_is_what_the_types_say() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert page == reference(), "run: python -m docs.configuration > docs/configuration.md"


def test_a_struct_becomes_a_table_of_its_keys_and_the_tables_in_it() -> None:
    title, words, rows, *inner = _tables(Outer, "outer")
    assert title == "### `[outer]`"
    assert words == "One table."
    assert rows.splitlines()[2:] == [
        "| `path` | text | *required* | identity |",
        '| `way` | `"a"` \\| `"b"` | `"a"` | identity |',
        "| `share` | number | - | identity |",
        "| `parts` | list of tables | `{size = 3}` | identity |",
    ]
    assert inner[0] == "### `[[outer.parts]]`"
    assert inner[3] == "### `[outer.named.NAME]`"
    assert inner[5].splitlines()[2] == "| `size` | whole number | `3` | identity |"


def test_known_keys_stand_where_they_belong() -> None:
    tables = re.split(r"\n### ", reference())
    vllm = next(table for table in tables if table.startswith('`[models.NAME]` with `kind = "vllm"`'))
    assert "| `replicas` | whole number, at least 1 | `1` | operational |" in vllm
    assert '| `model` | text | `"smollm2-135m"` | identity |' in vllm
    rounds = next(table for table in tables if table.startswith("`[rounds]`"))
    assert "| `num_rounds` | whole number | `2` | operational |" in rounds
    assert "| `held_out` | whole number | `4` | identity |" in rounds
    for name in ("counseling", "exam", "mental_arena", "items", "judging"):
        assert f'`[protocol]` with `name = "{name}"`' in reference()


def test_every_figure_that_a_rule_may_name_is_named() -> None:
    figures = {name for name in RoundFigures.__struct_fields__ if name != "top_label"}
    (rule,) = (table for table in re.split(r"\n### ", reference()) if table.startswith("`[[rounds.rules]]`"))
    assert figures <= set(re.findall(r"`(\w+)`", rule.partition("| key |")[0]))


def test_no_key_is_given_by_a_word_that_toml_lacks() -> None:
    assert not re.search(r"\bNone\b", reference())
