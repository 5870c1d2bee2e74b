"""`sandplay fetch`: models and data sets into the local cache before anything needs them.

Models come to all nodes of a cluster, data sets to this machine: the driver alone reads them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from actors.fetching import Fetched, NodeAnswer, Wanted

TABLES: Final = ("models", "ray", "embedder")
"""What fetching reads of a configuration; a file may have more."""
HERE: Final = "this machine"
_GIB: Final = 1 << 30


def fetch(
    source: Annotated[
        str,
        typer.Argument(metavar="CONFIG.toml|ID", help="A configuration, an id, or hf:ORG/NAME, a data set."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[a.b=c]...", help="Settings that replace the file's.")
    ] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of an ID (default: the newest).")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")] = False,
) -> None:
    """Bring models, the embedder and data sets into the local cache; models with `ray.address` into each node's."""
    from engine.errors import InputError
    from engine.tables import write

    wanted, address = wanted_of(source, overrides or [], revision)
    _say(f"fetching {', '.join(one.name for one in wanted)}")
    answers = _fetch(wanted, address)
    if as_json:
        import msgspec

        print(json.dumps(msgspec.to_builtins(answers)), flush=True)
    else:
        for node, answer in answers.items():
            write("\n".join(f"{node}: {_line(one)}" for one in answer.fetched))
    if problems := [f"{node}: {problem}" for node, answer in answers.items() for problem in answer.problems]:
        raise InputError(problems)


def wanted_of(source: str, overrides: list[str], revision: str) -> "tuple[list[Wanted], str | None]":
    """Return what a configuration or an id asks for, and the cluster it is for. Raises InputError."""
    from actors.fetching import Wanted
    from engine.cases.datasets import is_dataset
    from engine.commands.datasets import SUFFIXES
    from engine.errors import InputError

    path = Path(source)
    if not source.endswith(".toml") and not path.is_file():
        if overrides:
            raise InputError(f"settings go with a configuration, got {overrides[0]!r} for {source}: leave them out")
        if is_dataset(source):
            suffixes = tuple(dict.fromkeys(suffix for some in SUFFIXES.values() for suffix in some))
            return [Wanted(source, "dataset", revision or None, suffixes=suffixes)], None
        return [Wanted(source, revision=revision or None)], None
    if revision:
        raise InputError(f"--revision goes with a Hugging Face id, got {revision!r}: set models.NAME.revision instead")
    return _wanted_by(path, overrides)


def _wanted_by(path: Path, overrides: list[str]) -> "tuple[list[Wanted], str | None]":
    from actors.fetching import Wanted
    from engine import config as configuration
    from engine.commands.datasets import SUFFIXES, dataset_sources
    from engine.config_sections import VllmConfig
    from engine.errors import InputError
    from engine.planning import located

    table = configuration.apply_overrides(configuration.read_table(path), overrides)
    config = configuration.load({name: table[name] for name in TABLES if name in table})
    base = path.absolute().parent
    wanted = [
        Wanted(located(model.model, base), "served", model.revision, model.max_model_len)
        for model in config.models.values()
        if isinstance(model, VllmConfig)
    ]
    if "embedder" in table and config.embedder.kind == "local":
        wanted.append(Wanted(config.embedder.model, "embedder"))
    for section, (source, revision) in dataset_sources(table).items():
        wanted.append(Wanted(source, "dataset", revision, suffixes=SUFFIXES[section]))
    if not wanted:
        raise InputError(f"a configuration must have a local model or a data set to be fetched, got none in {path}")
    return list(dict.fromkeys(wanted)), config.ray.address


def _fetch(wanted: "list[Wanted]", address: str | None) -> "Mapping[str, NodeAnswer]":
    import asyncio
    from tempfile import TemporaryDirectory

    from actors.fetching import NodeAnswer, fetch_all, fetch_on_nodes
    from actors.processes import ProcessTable

    here = [one for one in wanted if address is None or one.kind == "dataset"]
    answers: dict[str, NodeAnswer] = {HERE: fetch_all(here)} if here else {}
    if address is None or len(here) == len(wanted):
        return answers
    with TemporaryDirectory(prefix="sandplay-") as scratch:
        table = ProcessTable(Path(scratch) / "processes.json")
        elsewhere = [one for one in wanted if one not in here]
        found: Mapping[str, NodeAnswer] = asyncio.run(fetch_on_nodes(elsewhere, address, table, _say))
        return {**answers, **found}


def _line(one: "Fetched") -> str:
    commit = f" at {one.commit[:12]}" if one.commit else ""
    return f"{one.name}{commit}: {one.num_files} files, {one.num_bytes / _GIB:.2f} GiB in {one.path}"


def _say(text: str) -> None:
    from engine.tables import say

    say(text)
