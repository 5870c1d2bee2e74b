"""Names of a configuration, as hostile as texts of models: what commands say moves no terminal, and stays readable."""

import tomllib
from pathlib import Path

from tests.running import start
from tests.stub import serve

EVIL = "e\\u001b[31mv\\u009b2Jil\\u202e\\u0085x"
CONFIG = f"""
name = "{EVIL}"
[protocol]
name = "counseling"
max_turns = 2
[cases]
limit = 1
[models."b{EVIL}"]
kind = "openai"
model = "m{EVIL}"
base_url = "URL"
[models.local]
kind = "vllm"
model = "org/l{EVIL}"
[roles]
patient = "b{EVIL}"
therapist = "b{EVIL}"
"""


def said_by(*arguments: str | Path) -> str:
    process = start(*arguments, env={"HF_HUB_OFFLINE": "1"})
    out, err = process.communicate(timeout=120)
    moving = [one for one in out + err if not one.isprintable() and one != "\n"]
    assert not moving, (arguments, moving)
    assert out + err
    return out


def test_names_of_a_configuration_move_no_terminal(tmp_path: Path) -> None:
    config, out = tmp_path / "evil.toml", tmp_path / "run"
    with serve() as stub:
        config.write_text(CONFIG.replace("URL", stub.base_url), "utf-8")
        shown = said_by("generate", config, "--dry-run")
        table, wanted = tomllib.loads(shown), tomllib.loads(config.read_text("utf-8"))
        assert table["name"] == wanted["name"] and set(table["models"]) == set(wanted["models"])
        said_by("generate", config, "roles.patient=local", "--dry-run")
        said_by("generate", config, "roles.patient=local", "--out", tmp_path / "none")
        said_by("fetch", config)
        said_by("serve", config)
        said_by("simulate", config, "roles.patient=local", "roles.therapist=local")
        said_by("generate", config, "--out", out)
    for command in (["status"], ["show"], ["report"], ["quality"], ["quality", "--json"], ["scan"], ["swap", "base"]):
        said_by(command[0], out, *command[1:])
    said_by("export", out, "--format", "messages", "--to", tmp_path / "rows")
    said_by("samples", "--from", out, "--kind", "patient", "--to", tmp_path / "samples")
    said_by("judge", out, "--out", tmp_path / "judged")
