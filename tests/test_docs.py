"""The pages as a reader uses them: links lead somewhere, commands exist, and every block that can be run here is run.

A block is run unless `<!-- needs hardware -->` stands on the line before it. `<!-- file: NAME -->` before a block makes
it a file in the reader's directory; an endpoint named in it is the stub. Blocks of one page share the directory.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.running import ROOT, run, stub_process

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
HARDWARE = "<!-- needs hardware -->"
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


def commands(page: Path) -> set[str]:
    """Return the commands that a page names, in its blocks and in its sentences."""
    shell = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    inline = re.findall(r"`(sandplay [a-z][^`]*)`", page.read_text("utf-8"))
    found = (re.match(r"sandplay ([a-z]+)", line.strip()) for line in (*shell, *inline))
    return {match[1] for match in found if match is not None}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not (page.parent / link.partition("#")[0]).exists()] == []


def test_the_readme_names_every_page() -> None:
    assert {f"docs/{page.name}" for page in DOCS} <= set(links(ROOT / "README.md"))


def test_every_command_that_is_named_exists() -> None:
    known = set(re.findall(r"^\W*([a-z]+)\s", run("--help"), re.MULTILINE))
    named = {page.name: commands(page) - known for page in PAGES}
    assert {"generate", "resume", "exam"} <= known
    assert {name: missing for name, missing in named.items() if missing} == {}


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
