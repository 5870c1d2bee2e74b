"""The README's commands and its tutorial, as a reader types them."""

import re
import shlex
from pathlib import Path

from tests.running import ROOT, run, run_json, stub_process, write_config

README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_quotes_the_example_protocol_word_for_word() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    example = (ROOT / "examples" / "my_protocol.py").read_text("utf-8")
    code = example[example.index("from engine.asking") :]
    assert code in blocks
    assert len(code.splitlines()) < 30


def test_a_protocol_of_ones_own_runs_without_touching_the_package(tmp_path: Path) -> None:
    (tmp_path / "my_protocol.py").write_text((ROOT / "examples" / "my_protocol.py").read_text("utf-8"), "utf-8")
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        text = config.read_text()
        text = text.replace('name = "mental_arena"\nsimilarity = 0.9', 'name = "my_protocol.py:listening"')
        config.write_text(text.replace('therapist = "base"\njudge = "base"', 'listener = "base"'))
        summary = run_json("generate", config, "cases.limit=3", "--out", tmp_path / "run")
        assert summary["episodes"]["completed"] == 3
        assert summary["calls"] == 3 * 7
        run("export", tmp_path / "run", "--format", "messages", "--to", tmp_path / "data")
        assert "listener" in run("show", tmp_path / "run", "amara-depression.0")


def test_counseling_needs_no_embedder_and_no_judge(tmp_path: Path) -> None:
    with stub_process(tmp_path) as stub:
        config = write_config(tmp_path, stub.url)
        text = config.read_text().partition("[embedder]")[0]
        text = text.replace('name = "mental_arena"\nsimilarity = 0.9', 'name = "counseling"\nmax_turns = 3')
        config.write_text(text.replace('judge = "base"', ""))
        summary = run_json("generate", config, "cases.limit=4", "--out", tmp_path / "run")
    assert summary["episodes"]["completed"] == 4
    assert summary["calls"] == 4 * 6


def test_commands_in_the_readme_exist() -> None:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = {shlex.split(line, comments=True)[1] for line in lines if line.startswith("sandplay ")}
    assert {"generate", "resume", "show", "export"} <= commands
    for command in commands:
        assert command in run("--help")


def test_the_scripted_example_says_so_on_every_line() -> None:
    lines = run("show", "--example").splitlines()
    assert lines
    assert all("SCRIPTED" in line for line in lines if line.strip())
