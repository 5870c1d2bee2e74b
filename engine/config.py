"""The typed configuration tree: sparse TOML in, every default written out.

Unknown keys, wrong types and values out of range are refused, all at once, before anything is touched. A field is
*identity* (what the corpus is: a resumed run must have the same) or *operational* (how fast and where it is made).
Derived values are properties. The `[protocol]` table belongs to the protocol and is decoded with its own rules type.
"""

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine import api_keys
from engine.base_url import url_problems
from engine.cases.datasets import is_dataset
from engine.config_decode import decode
from engine.config_sections import (
    LORA_RANKS,
    CasesConfig,
    CorpusConfig,
    EmbedderConfig,
    JournalConfig,
    LimitsConfig,
    ModelConfig,
    OpenAIConfig,
    PrinciplesConfig,
    PrivacyConfig,
    RayConfig,
    SchedulerConfig,
    VllmConfig,
    prices_of,
)
from engine.engine_table import ONLY_SPEED, model_problems
from engine.errors import ConfigError, InputError
from engine.targets import option_problems, target_problems


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run. `name` is part of its directory's name where `--out` gives none.

    `seed` draws sampled cases and what a protocol itself draws; models are sent none. `prompts` is a directory whose
    files replace the protocol's own texts ("" for none). `shards` is the number of schedulers, each with its own
    journal, slice of the cases and share of the replicas. `roles` says which of `[models]` plays each role of the
    protocol; every role needs one. `protocol` is the protocol's own table.
    """

    name: str = "run"
    seed: int = 0
    shards: int = 1
    prompts: str = ""
    protocol: dict[str, Any] = {}
    cases: CasesConfig = CasesConfig()
    principles: PrinciplesConfig = PrinciplesConfig()
    corpus: CorpusConfig = CorpusConfig()
    models: dict[str, ModelConfig] = {}
    roles: dict[str, str] = {}
    embedder: EmbedderConfig = EmbedderConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    journal: JournalConfig = JournalConfig()
    limits: LimitsConfig = LimitsConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    ray: RayConfig = RayConfig()

    @property
    def protocol_name(self) -> str:
        """The protocol's name."""
        return str(self.protocol.get("name", "mental_arena"))


_ADDRESS = re.compile(r"(?:ray://)?(?:[\w-]+(?:\.[\w-]+)*\.?|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", re.ASCII)

OPERATIONAL = (
    "scheduler.*",
    "journal.*",
    "limits.*",
    "ray.*",
    "corpus.*",
    "privacy.egress",
    "embedder.base_url",
    "embedder.api_key_env",
    *(
        f"models.*.{field}"
        for field in (
            "replicas tensor_parallel max_num_seqs block_size kv_cache_gib gpu_memory_utilization dtype "
            "num_gpu_blocks_override start_timeout_s stall_timeout_s max_restarts base_url api_key_env max_inflight "
            "structured max_model_len max_lora_rank gpus price_in price_out price_cached"
        ).split()
    ),
    *(f"models.*.engine.{name}" for name in ONLY_SPEED),
)
"""Patterns of the fields that may change between `generate` and `resume`; all others are identity."""


def is_operational(dotted: str) -> bool:
    """Whether the field `a.b.c` may change on resume."""
    parts = dotted.split(".")
    patterns = (pattern.split(".") for pattern in OPERATIONAL)
    return any(
        len(parts) >= len(pattern) and all(want in ("*", part) for want, part in zip(pattern, parts, strict=False))
        for pattern in patterns
    )


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `a.b=c`; c is read as a TOML value, or taken as a plain string. Raises ConfigError."""
    dotted, equals, raw = text.partition("=")
    if not equals or not all(dotted.split(".")):
        raise ConfigError(f"an override must look like a.b=value, got {api_keys.shown(text)}")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    return dotted.strip().split("."), value


def apply_overrides(table: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return a copy of the table with `a.b=c` overrides set. Raises ConfigError."""
    # JSON has no word for such a figure: of the copy nobody could say what was given.
    _refuse_endless(table)
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(table))
    for text in overrides:
        path, value = parse_override(text)
        here = copy
        for key in path[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise ConfigError(f"override of {'.'.join(path)}: {key!r} is a value, not a table")
        here[path[-1]] = value
    _refuse_endless(copy)
    return copy


def _refuse_endless(table: Mapping[str, Any]) -> None:
    odd = [
        (key, value) for key, value in flatten(table).items() if isinstance(value, float) and not math.isfinite(value)
    ]
    if odd:
        raise ConfigError([f"{key} must be a finite number, got {value}" for key, value in odd])


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ConfigError naming line and column."""
    if not path.is_file():
        raise ConfigError(f"the configuration file must exist, got {path}: see examples/demo.toml for one to copy")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as bad:
        raise ConfigError(f"{path} is not valid TOML: {bad}") from None


def load(table: Mapping[str, Any]) -> Config:
    """Decode a table into a Config and check ranges and references. Raises ConfigError with every problem."""
    held = api_keys.table_problems(flatten(table))
    config, problems = decode(Config, table, "")
    problems += held
    problems += _range_problems(table) if config is None else _problems(config)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def _range_problems(table: Mapping[str, Any]) -> list[str]:
    """Ranges of the sections that decode by themselves, so that one bad type hides no other problem."""
    found: list[str] = []
    scheduler, _ = decode(SchedulerConfig, table.get("scheduler", {}), "")
    if scheduler is not None:
        found += _minima("scheduler", scheduler, scheduler.minima)
    journal, _ = decode(JournalConfig, table.get("journal", {}), "")
    if journal is not None:
        found += _journal_ranges(journal)
    limits, _ = decode(LimitsConfig, table.get("limits", {}), "")
    return found + (_limit_ranges(limits) if limits is not None else [])


def _journal_ranges(journal: JournalConfig) -> list[str]:
    found = _minima("journal", journal, journal.minima)
    if journal.local_dir and not journal.local_dir.startswith(("/", "~", "$")):
        found.append(f"journal.local_dir must be absolute or begin with ~ or $, got {journal.local_dir!r}")
    return found


def _limit_ranges(limits: LimitsConfig) -> list[str]:
    return [
        f"limits.{name} must be a number >= 0 (0 is no limit), got {value}"
        for name, value in limits.by_name.items()
        if not 0 <= value < math.inf
    ]


def _limit_problems(config: Config) -> list[str]:
    limits = config.limits
    found = _limit_ranges(limits)
    played = [config.models[name] for name in config.roles.values() if name in config.models]
    if limits.max_cost > 0 and all(model.price_in is None for model in played):
        found.append(
            f"limits.max_cost needs prices, got {limits.max_cost} and none: set price_in and price_out of a model"
            " that plays a role"
        )
    for name, value in (("max_calls", limits.max_calls), ("max_tokens", limits.max_tokens)):
        if 0 < value < config.shards:
            found.append(f"limits.{name} must be >= shards={config.shards}, each has its share of it, got {value}")
    return found


def _minima(where: str, section: msgspec.Struct, minima: Mapping[str, float]) -> list[str]:
    values = {name: getattr(section, name) for name in minima}
    return [
        f"{where}.{name} must be {'' if math.isfinite(value) else 'a finite number '}>= {minima[name]}, got {value}"
        for name, value in values.items()
        if isinstance(value, int | float) and not minima[name] <= value < math.inf
    ]


def _ray_problems(ray: RayConfig) -> list[str]:
    found = []
    cpus, address = ray.cpus_per_replica, ray.address
    if cpus is not None and not 0 <= cpus < math.inf:
        found.append(f"ray.cpus_per_replica must be a finite number >= 0, got {cpus}: leave it out to have it found")
    if address is not None and not ((named := _ADDRESS.fullmatch(address)) and 0 < int(named[1]) < 1 << 16):
        rule = f"ray.address must be HOST:PORT of a Ray's head, got {api_keys.shown(address)}"
        found.append(f"{rule}: such as 10.0.0.1:6379, or leave it out for a Ray of our own on this machine")
    return found


def _problems(config: Config) -> list[str]:
    found = _minima("scheduler", config.scheduler, config.scheduler.minima) + _journal_ranges(config.journal)
    if config.cases.repeats < 1:
        found.append(f"cases.repeats must be >= 1, got {config.cases.repeats}")
    if config.cases.limit < 0:
        found.append(f"cases.limit must be >= 0 (0 plays all), got {config.cases.limit}")
    for where, section in (("cases", config.cases), ("principles", config.principles)):
        if section.revision is not None and not is_dataset(section.source):
            rule = f"{where}.revision must be left out for {section.source}, got {section.revision!r}"
            found.append(f"{rule}: only a data set of the hub has revisions")
    for name, model in config.models.items():
        found += _minima(f"models.{name}", model, model.minima) + prices_of(model).problems(f"models.{name}")
        if isinstance(model, VllmConfig) and not 0 < model.gpu_memory_utilization <= 1:
            found.append(f"models.{name}.gpu_memory_utilization must be in (0, 1], got {model.gpu_memory_utilization}")
        if isinstance(model, VllmConfig) and 1 <= model.replicas < config.shards:
            found.append(f"models.{name}.replicas must be >= shards={config.shards}, got {model.replicas}")
        if isinstance(model, VllmConfig) and model.max_lora_rank not in LORA_RANKS:
            ranks = ", ".join(map(str, LORA_RANKS))
            found.append(f"models.{name}.max_lora_rank must be one of {ranks}, got {model.max_lora_rank}")
        if isinstance(model, VllmConfig):
            found += model_problems(name, model, config.ray)
        if isinstance(model, OpenAIConfig):
            found += url_problems(f"models.{name}", model.base_url)
    found += _ray_problems(config.ray)
    if config.embedder.kind == "openai":
        found += url_problems("embedder", config.embedder.base_url)
    found += _limit_problems(config)
    if config.corpus.target:
        found += target_problems("corpus.target", config.corpus.target, config.corpus.target_options)
    else:
        found += option_problems("corpus.target_options", config.corpus.target_options)
    if config.shards < 1:
        found.append(f"shards must be >= 1, got {config.shards}")
    if not config.models:
        found.append('no model is configured: add a table such as [models.base] with kind = "vllm"')
    for role, model_name in config.roles.items():
        if model_name not in config.models:
            known = ", ".join(sorted(config.models)) or "none"
            found.append(f"roles.{role} must name a model, got {model_name!r}: the models are {known}")
    return found


def role_problems(config: Config, roles: tuple[str, ...], protocol: str) -> list[str]:
    """Return one sentence per role of the protocol that has no model, and per role it does not have."""
    missing = [
        f'role {role!r} of protocol {protocol!r} has no model: add {role} = "..." under [roles]'
        for role in roles
        if role not in config.roles
    ]
    unknown = [f"roles.{role}: protocol {protocol!r} has no such role" for role in config.roles if role not in roles]
    return missing + unknown


def to_table(config: Config, protocol: msgspec.Struct) -> dict[str, Any]:
    """Return the resolved configuration as a TOML-ready table: every default written out, None left away."""
    table = msgspec.to_builtins(config)
    table["protocol"] = msgspec.to_builtins(protocol)
    found: dict[str, Any] = without_none(table)
    return found


def without_none(value: Any) -> Any:
    """Return a table without keys that hold None, which TOML has no word for; tables in it and in its lists as well."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    return [without_none(inner) for inner in value] if isinstance(value, list | tuple) else value


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {dotted name: value} of all leaves."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def refuse_drift(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise InputError listing each identity field that differs between two resolved tables."""
    old, new = flatten(before), flatten(after)
    changed = [
        f"{key} is part of the run's identity: it was {old.get(key)!r}, got {new.get(key)!r}; start a new run for it"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not is_operational(key)
    ]
    if changed:
        raise InputError(changed)
