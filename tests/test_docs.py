"""The pages as a reader uses them: links lead somewhere, commands exist, and every block that can be run here is run.

What is done with a block stands in the HTML comment on the line before it. Without one, `sh` and `python` are run, and
a configuration is planned. `<!-- file: NAME -->` makes it a file in the reader's directory; an endpoint named in it is
the stub. `<!-- slow -->` is run in the slow set, on really served models. `<!-- needs WHAT: TESTS -->` is not run here:
it says what it needs, and which tests do the same. Blocks of one page share the directory.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.text import Text
from typer.main import get_group

from engine.cli import app
from engine.planning import make_plan
from eval.exam.planning import plan_exam
from tests.running import ROOT, StubProcess, run, stub_process, write_config
from tests.stub import Call, answer_by_purpose, serve

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
NEEDS = {"README.md": 7, "cluster.md": 2, "coming-from-mentalarena.md": 2}
"""How many blocks of each page are not run; another one is a decision, not an oversight."""
SLOW = {"README.md": 1}
LIGHT = {
    "getting-started.md": ("ray", "vllm", "torch", "transformers", "sentence_transformers", "datasets", "trl", "peft")
}
"""Pages whose blocks run without these packages."""
COMMANDS = get_group(app).commands
ENDPOINT = "http://127.0.0.1:8000/v1"

_BLOCK = re.compile(r"(?:^(<!-- [^\n]* -->)\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"<!-- file: (\S+) -->")
_NEEDS = re.compile(r"<!-- needs [a-z][\w ,-]+: (tests/\S+\.py(?:, tests/\S+\.py)*) -->")
_SLOW = "<!-- slow -->"


class Block(NamedTuple):
    """One fenced block: the comment on the line before it, its language and its text."""

    mark: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found.groups("")) for found in _BLOCK.finditer(page.read_text("utf-8"))]


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link))


def commands(page: Path) -> list[list[str]]:
    """Return the commands that a page names, in its blocks and in its sentences, as words behind `sandplay`."""
    shell = "".join(block.text for block in blocks(page) if block.language == "sh")
    return commands_in("\n".join([shell, *re.findall(r"`(sandplay [a-z][^`]*)`", page.read_text("utf-8"))]))


def commands_in(shell: str) -> list[list[str]]:
    """Return the commands of a shell text as words behind `sandplay`."""
    lines = map(str.strip, shell.replace("\\\n", " ").splitlines())
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sandplay ")]


def slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def test_the_readme_names_every_page() -> None:
    assert {f"docs/{page.name}" for page in DOCS} <= set(links(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_is_named_exists(page: Path) -> None:
    known = {name: {option for param in command.params for option in param.opts} for name, command in COMMANDS.items()}
    assert {"--out", "--json"} <= known["generate"]
    for name, *words in commands(page):
        assert name in known, name
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known[name], (name, words)


def test_help_loses_no_word_to_its_markup() -> None:
    helps = [(name, param.help) for name, command in COMMANDS.items() for param in command.params if param.help]
    assert len(helps) > 50
    assert [pair for pair in helps if Text.from_markup(pair[1]).plain != pair[1].replace("\\[", "[")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_what_it_needs(page: Path) -> None:
    found = blocks(page)
    assert len(re.findall(r"^```", page.read_text("utf-8"), re.MULTILINE)) == 2 * len(found), "a block has no language"
    wrong = [
        block.mark for block in found if block.mark and not (needs(block) or is_file(block) or block.mark == _SLOW)
    ]
    assert wrong == [], "a mark must be `file: NAME`, `slow`, or `needs WHAT: TESTS`"
    unknown = [
        block.language for block in found if not is_file(block) and block.language not in ("sh", "python", "toml")
    ]
    assert unknown == [], "a block that is no file must be of a language that can be run"
    assert sum(bool(needs(block)) for block in found) == NEEDS.get(page.name, 0)
    assert sum(block.mark == _SLOW for block in found) == SLOW.get(page.name, 0)
    missing = [test for block in found for test in needs(block) if not (ROOT / test).is_file()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_that_is_not_run_names_tests_of_each_of_its_commands(page: Path) -> None:
    for block in filter(needs, blocks(page)):
        tests = "".join((ROOT / test).read_text("utf-8") for test in needs(block))
        untested = {name for name, *_ in commands_in(block.text) if f'"{name}"' not in tests}
        assert untested == set(), block.mark


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "configuration.md"], ids=lambda page: page.name
)
def test_blocks_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub, serve(answer_differently) as played:
        reader = tmp_path / "reader"
        lend(reader)
        if page.name == "README.md":
            play(reader, tmp_path, played.base_url)
        for block in blocks(page):
            if is_file(block):
                write_file(block, reader, stub)
            elif not block.mark and block.language in ("sh", "python"):
                execute(block, reader, without=LIGHT.get(page.name, ()))
        for block in blocks(page):
            if block.language == "toml" and not needs(block):
                plan_block(block, reader, stub)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", SLOW)
def test_slow_blocks_run_as_they_stand(name: str, tmp_path: Path) -> None:
    (page,) = (page for page in PAGES if page.name == name)
    reader = tmp_path / "reader"
    lend(reader)
    for block in blocks(page):
        if block.mark == _SLOW:
            execute(block, reader, timeout_s=2900)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_files_of_a_page_that_ship_as_examples_are_quoted_word_for_word(page: Path) -> None:
    quoted = {file[1]: block.text for block in blocks(page) if (file := _FILE.fullmatch(block.mark)) is not None}
    shipped = {name: ROOT / "examples" / page.stem / name for name in quoted}
    different = [name for name, path in shipped.items() if path.exists() and path.read_text("utf-8") != quoted[name]]
    assert different == []


def needs(block: Block) -> list[str]:
    """Return the tests that do what a block that is not run would do; none for other blocks."""
    found = _NEEDS.fullmatch(block.mark)
    return found[1].split(", ") if found is not None else []


def is_file(block: Block) -> bool:
    return _FILE.fullmatch(block.mark) is not None


def lend(reader: Path) -> None:
    """Make a reader's directory look like a checkout that is set up."""
    reader.mkdir()
    for name in ("examples", ".venv"):
        (reader / name).symlink_to(ROOT / name)


def play(reader: Path, tmp_path: Path, url: str) -> None:
    """Put into a reader's directory what a page presupposes: runs, exams, records, cases and people's ratings."""
    config = write_config(tmp_path, url)
    runs = reader / "runs"
    for number, name in enumerate(("first", "second")):
        run("generate", config, "name=demo", f"seed={number}", "cases.limit=3", "--out", runs / name)
    model = f'models.base={{kind = "openai", model = "stub", base_url = "{url}"}}'
    for name in ("before", "after"):
        run("exam", ROOT / "examples" / "exam.toml", model, "--out", runs / name)
    run("export", runs / "first", "--format", "records", "--to", reader / "records.jsonl")
    cases = (runs / "first" / "inputs" / "cases.jsonl").read_text("utf-8").splitlines()
    (reader / "cases.json").write_text(f"[{','.join(cases)}]", "utf-8")
    rated = [f"{json.loads(case)['id']}.0,danger_present,Ann,no" for case in cases]
    (reader / "people.csv").write_text("\n".join(["transcript,dimension,rater,score", *rated]), "utf-8")


def answer_differently(call: Call) -> str:
    """Answer as the stub does, but let first plans be worse than second ones, and no two plans alike."""
    if call.purpose == "score":
        return "9" if "/2/" in call.sandplay("step") else "4"
    told = answer_by_purpose()(call)
    return f"{told} ({call.sandplay('episode')}, {call.sandplay('step')})" if call.purpose == "plan" else told


def write_file(block: Block, reader: Path, stub: StubProcess) -> None:
    name = _FILE.fullmatch(block.mark)
    assert name is not None
    target = reader / name[1]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(served(block.text, stub.url), "utf-8")


def plan_block(block: Block, reader: Path, stub: StubProcess) -> None:
    """Plan a configuration as a reader's file; one of an exam is planned by the command that takes it."""
    table = tomllib.loads(served(block.text, stub.url))
    plan = plan_exam if "tasks" in table else make_plan
    assert plan(table, reader).num_episodes > 0


def served(text: str, url: str) -> str:
    """Return a file's text with the endpoint it names replaced by the stub, which serves one model."""
    return re.sub(r'(kind = "openai"\n)model = "[^"]*"', r'\1model = "stub"', text.replace(ENDPOINT, url))


def execute(block: Block, directory: Path, timeout_s: float = 500, without: Sequence[str] = ()) -> None:
    """Run one block as its reader would, in the reader's directory; `sandplay` is that of this checkout.

    Packages it does `without` are shadowed by modules that cannot be imported.
    """
    shadows = directory.parent / "shadows"
    shadows.mkdir(exist_ok=True)
    for name in without:
        (shadows / f"{name}.py").write_text(f"raise ModuleNotFoundError(name='{name}')\n", "utf-8")
    shell = f'set -e\nsandplay() {{ "{sys.executable}" -m engine "$@"; }}\n{block.text}'
    command = ["bash", "-c", shell] if block.language == "sh" else [sys.executable, "-c", block.text]
    env = {**os.environ, "PYTHONPATH": f"{shadows}:{ROOT}"}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
