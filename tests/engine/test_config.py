"""Strict configuration: every problem at once, overrides, identity and operational fields."""

from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from engine.config import (
    Config,
    apply_overrides,
    flatten,
    is_operational,
    load,
    parse_override,
    read_table,
    refuse_drift,
    role_problems,
    to_table,
)
from engine.errors import ConfigError, InputError
from engine.protocol import Rules

TABLE = {"models": {"base": {"kind": "vllm"}}, "roles": {"patient": "base"}}


def problems_of(table: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as refused:
        load(table)
    return str(refused.value)


@pytest.mark.parametrize("figure", ["nan", "inf", "-inf"])
def test_figures_without_end_are_refused_as_they_were_given(figure: str) -> None:
    problem = f"limits.max_cost must be a finite number, got {figure}"
    for table, overrides in ((TABLE, [f"limits.max_cost={figure}"]), ({"limits": {"max_cost": float(figure)}}, [])):
        with pytest.raises(ConfigError, match=problem):
            apply_overrides(table, overrides)


def test_all_problems_come_at_once_with_value_and_remedy() -> None:
    text = problems_of(
        {
            "nmae": "x",
            "scheduler": {"max_live": 0, "max_attempts": "many"},
            "models": {"base": {"replicas": "two", "max_modellen": 3}, "other": {"kind": "tgi"}},
        }
    )
    assert "unknown configuration key nmae: did you mean name?" in text
    assert "models.base.replicas" in text and "'two'" in text
    assert "did you mean models.base.max_model_len?" in text
    assert "models.other.kind must be one of vllm, openai, got 'tgi'" in text
    assert "scheduler.max_attempts" in text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE | {"scheduler": {"max_live": 0}}, "scheduler.max_live must be >= 1, got 0"),
        (TABLE | {"journal": {"copy_every_s": 0}}, "journal.copy_every_s must be >= 0.1, got 0"),
        (TABLE | {"journal": {"local_dir": "scratch"}}, "journal.local_dir must be absolute or begin with ~ or $"),
        (TABLE | {"cases": {"repeats": 0}}, "cases.repeats must be >= 1, got 0"),
        (TABLE | {"roles": {"patient": "nobody"}}, "roles.patient must name a model, got 'nobody'"),
        ({"roles": {}}, "no model is configured"),
        ({"models": {"m": {"kind": "openai"}}}, "models.m.model is required"),
        ({"models": 3}, "models"),
    ],
)
def test_each_rule_has_its_message(table: dict[str, object], message: str) -> None:
    assert message in problems_of(table)


def test_bad_prices_and_limits_come_together() -> None:
    model = {"kind": "vllm", "replicas": 3, "price_in": -1, "price_out": 2}
    limits = {"max_calls": 2, "max_hours": -1, "max_tokens": -5}
    text = problems_of({"models": {"base": model}, "roles": {"patient": "base"}, "limits": limits, "shards": 3})
    assert text.splitlines() == [
        "models.base.price_in must be money per million tokens >= 0, got -1.0",
        "limits.max_tokens must be a number >= 0 (0 is no limit), got -5",
        "limits.max_hours must be a number >= 0 (0 is no limit), got -1.0",
        "limits.max_calls must be >= shards=3, each has its share of it, got 2",
    ]
    wrong = problems_of(TABLE | {"limits": {"max_calls": -1}, "shards": "two"})
    assert "limits.max_calls must be a number >= 0" in wrong and "shards" in wrong


def test_a_limit_of_cost_needs_the_price_of_a_model_that_plays() -> None:
    spare = {"spare": {"kind": "vllm", "price_in": 1, "price_out": 1}}
    table = {"models": {**spare, "base": {"kind": "vllm"}}, "roles": {"patient": "base"}, "limits": {"max_cost": 2.5}}
    assert "limits.max_cost needs prices, got 2.5 and none" in problems_of(table)
    assert load(table | {"roles": {"patient": "base", "judge": "spare"}}).limits.is_set
    assert not Config().limits.is_set


def test_limits_and_prices_may_change_on_resume() -> None:
    before = to_table(load(TABLE), Rules())
    refuse_drift(before, apply_overrides(before, ["limits.max_calls=4", "models.base.price_in=1.5"]))
    older = {name: inner for name, inner in before.items() if name != "limits"}
    refuse_drift(older, before)


def test_roles_without_a_model_and_unknown_roles_are_named() -> None:
    found = role_problems(load(TABLE | {"roles": {"patient": "base", "x": "base"}}), ("patient", "judge"), "p")
    assert any("'judge'" in problem and "[roles]" in problem for problem in found)
    assert any("roles.x" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", 1),
        ("a.b=0.5", 0.5),
        ("a.b=true", True),
        ('a.b="x"', "x"),
        ("a.b=x y", "x y"),
        ("a.b=http://h/v1", "http://h/v1"),
    ],
)
def test_overrides_are_toml_values_or_plain_text(text: str, value: object) -> None:
    assert parse_override(text) == (["a", "b"], value)
    assert apply_overrides({}, [text]) == {"a": {"b": value}}


@pytest.mark.parametrize("text", ["a.b", "=1", "a..b=1"])
def test_bad_overrides_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a\.b=value"):
        apply_overrides({}, [text])


def test_resolved_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    config = load(TABLE)
    table = to_table(config, Rules())
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps(table), "utf-8")
    again = read_table(path)
    assert again == table
    assert to_table(load(again), Rules()) == table


def test_a_malformed_file_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("name = \n", "utf-8")
    with pytest.raises(ConfigError, match=r"line 1, column 8"):
        read_table(path)


def test_identity_may_not_change_but_operation_may() -> None:
    before = to_table(load(TABLE), Rules())
    after = apply_overrides(before, ["models.base.replicas=4", "scheduler.max_live=9"])
    refuse_drift(before, after)
    with pytest.raises(InputError, match="seed is part of the run's identity: it was 0, got 7"):
        refuse_drift(before, apply_overrides(before, ["seed=7"]))


@given(st.sampled_from(sorted(flatten(to_table(load(TABLE), Rules())))))
def test_every_field_is_one_or_the_other(name: str) -> None:
    assert is_operational(name) == (
        name.startswith(("scheduler.", "journal.", "limits.", "ray.", "corpus.", "privacy.egress", "models.base."))
        and name not in ("models.base.model", "models.base.kind")
    ) or name.startswith("embedder.")


def test_defaults_hold_without_a_file() -> None:
    assert Config().protocol_name == "mental_arena"


def test_a_word_that_is_not_known_is_not_repeated_where_it_may_be_a_key() -> None:
    known = "sk-abcdefgh12345678"
    with pytest.raises(ConfigError) as refused:
        load(apply_overrides(TABLE, [f"privacy.egress={known}", f"models.base.kind={known}"]))
    assert len(refused.value.problems) == 2 and known not in str(refused.value)
    with pytest.raises(ConfigError, match="privacy.egress: invalid enum value, got 'maybe'"):
        load(apply_overrides(TABLE, ["privacy.egress=maybe"]))


def test_options_of_a_target_hold_no_secret_even_without_one() -> None:
    with pytest.raises(ConfigError, match="corpus.target_options must hold no credentials, got the option secret_key"):
        load(apply_overrides(TABLE, ["corpus.target_options.secret_key=hush"]))
    assert load(apply_overrides(TABLE, ["corpus.target_options.region=here"]))
