"""The pages as a reader uses them: links lead somewhere, commands exist, and every block that can be run here is run.

A block is run unless `<!-- needs hardware -->` stands on the line before it. `<!-- file: NAME -->` before a block makes
it a file in the reader's directory; an endpoint named in it is the stub. Blocks of one page share the directory.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.main import get_group

from engine.cli import app
from tests.running import ROOT, stub_process

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
HARDWARE = "<!-- needs hardware -->"
COMMANDS = get_group(app).commands
ENDPOINT = "http://127.0.0.1:8000/v1"

_BLOCK = re.compile(r"(?:^(<!-- [^\n]* -->)\n)?^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"<!-- file: (\S+) -->")


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
    text = page.read_text("utf-8")
    shell = "".join(block.text for block in blocks(page) if block.language == "sh").replace("\\\n", " ")
    found = [*shell.splitlines(), *re.findall(r"`(sandplay [a-z][^`]*)`", text)]
    return [shlex.split(line, comments=True)[1:] for line in map(str.strip, found) if line.startswith("sandplay ")]


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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in DOCS if page.name != "configuration.md"], ids=lambda page: page.name)
def test_blocks_run_as_they_stand(page: Path, tmp_path: Path) -> None:
    reader = tmp_path / "reader"
    reader.mkdir()
    with stub_process(tmp_path) as stub:
        for block in blocks(page):
            file = _FILE.fullmatch(block.mark)
            if file is not None:
                target = reader / file[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(served(block.text, stub.url), "utf-8")
            elif block.mark != HARDWARE and block.language in ("sh", "python"):
                execute(block, reader)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_files_of_a_page_that_ship_as_examples_are_quoted_word_for_word(page: Path) -> None:
    quoted = {file[1]: block.text for block in blocks(page) if (file := _FILE.fullmatch(block.mark)) is not None}
    shipped = {name: ROOT / "examples" / page.stem / name for name in quoted}
    different = [name for name, path in shipped.items() if path.exists() and path.read_text("utf-8") != quoted[name]]
    assert different == []


def served(text: str, url: str) -> str:
    """Return a file's text with the endpoint it names replaced by the stub, which serves one model."""
    return re.sub(r'(kind = "openai"\n)model = "[^"]*"', r'\1model = "stub"', text.replace(ENDPOINT, url))


def execute(block: Block, directory: Path) -> None:
    """Run one block as its reader would, in the reader's directory; `sandplay` is that of this checkout."""
    shell = f'set -e\nsandplay() {{ "{sys.executable}" -m engine "$@"; }}\n{block.text}'
    command = ["bash", "-c", shell] if block.language == "sh" else [sys.executable, "-c", block.text]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
