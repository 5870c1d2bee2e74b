"""`sandplay calibrate --speed` and the hours of `--dry-run`: measured once on a real engine, found again, named."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.models import prepare_model
from engine.commands.calibrating import NUM_TOKENS, batches_of
from engine.config_sections import VllmConfig
from engine.hardware import computes_with
from engine.speed import Speed, keep_speed, speed_path
from tests.engine.test_speed import MEASURED
from tests.running import ROOT, run, write_config

DEMO = ROOT / "examples" / "demo.toml"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that has the default model and nothing else."""
    model = prepare_model("smollm2-135m", 8192)
    (tmp_path / "cache" / "sandplay").mkdir(parents=True)
    (tmp_path / "cache" / "sandplay" / model.name).symlink_to(model)
    return tmp_path / "cache"


def forecast(cache: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    """Return the estimate of a dry run with that cache, for machines and for people."""
    env = {"XDG_CACHE_HOME": str(cache)}
    found = json.loads(run("generate", DEMO, *overrides, "--dry-run", "--json", env=env))
    return found["estimate"], run("generate", DEMO, *overrides, "--dry-run", env=env)


def test_a_dry_run_has_hours_where_a_measured_file_fits(cache: Path) -> None:
    found, shown = forecast(cache)
    assert found["halfway"]["hours"] is None
    assert "# hours: unknown, sandplay calibrate CONFIG --speed measures and keeps how fast models.base is" in shown
    measured = msgspec.json.decode(MEASURED.read_bytes(), type=Speed)
    here = msgspec.structs.replace(measured, machine=computes_with(is_cpu=True))
    path = speed_path(cache / "sandplay", VllmConfig(**measured.settings), here.machine)
    keep_speed(path, here)
    found, shown = forecast(cache)
    hours = [found[name]["hours"] for name in ("least", "halfway", "most")]
    assert 0 < hours[0] < hours[1] < hours[2]
    assert any(here.day in note and str(path) in note for note in found["notes"])
    assert f"# hours: {hours[0]:.3g} least, {hours[1]:.3g} halfway, {hours[2]:.3g} most" in shown
    # A file that was measured with other settings, or on another machine, is none.
    assert forecast(cache, "models.base.dtype=float16")[0]["most"]["hours"] is None
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(here, machine="another")))
    assert forecast(cache)[0]["most"]["hours"] is None


def test_only_local_models_on_this_machine_are_measured(tmp_path: Path) -> None:
    said = run("calibrate", write_config(tmp_path, "http://127.0.0.1:9/v1"), "--speed", expect=2)
    assert "--speed needs a model of kind vllm, got none" in said
    said = run("calibrate", DEMO, "ray.address=127.0.0.1:9", "--speed", expect=2)
    assert "--speed measures this machine, got ray.address" in said
    assert "name one" in run("calibrate", "--speed", expect=2)


@pytest.mark.parametrize(("max_seqs", "window"), [(1, 64), (3, 8192), (64, 8192), (1024, 200)])
def test_what_is_measured_fits_the_engine(max_seqs: int, window: int) -> None:
    found = batches_of(max_seqs, window)
    assert all(1 <= size <= max_seqs and 0 < tokens <= window - NUM_TOKENS for size, tokens in found)
    assert len({tokens for _, tokens in found}) > 1 or window <= 64


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(1200)
def test_a_real_engine_is_measured_and_kept(cache: Path) -> None:
    env = {"XDG_CACHE_HOME": str(cache)}
    said = run("calibrate", DEMO, "--speed", "--json", env=env, timeout_s=1100)
    kept = json.loads(said.splitlines()[-1])
    speed = msgspec.json.decode(Path(kept["file"]).read_bytes(), type=Speed)
    assert speed.machine == computes_with(is_cpu=speed.is_cpu) and speed.kv_tokens
    assert speed.coefficients.num_steps >= 60 and speed.coefficients.decode_seq > 0
    found, shown = forecast(cache)
    assert found["least"]["hours"] > 0 and kept["file"] in shown
    assert oct(os.stat(kept["file"]).st_mode & 0o777) == "0o600"
