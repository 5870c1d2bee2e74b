import signal
import time
from pathlib import Path

import pytest

from tests.running import start
from tests.test_real_run import write_real_config


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_model_is_converted_leaves_nothing_half_made(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    cache = tmp_path / "cache"
    environment = {"XDG_CACHE_HOME": str(cache)}
    process = start("generate", write_real_config(tmp_path), "--out", tmp_path / "run", env=environment)
    deadline = time.monotonic() + 60
    while not list(cache.glob("sandplay/.smollm2*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert not list(cache.glob("sandplay/*smollm2*/")) and not (tmp_path / "run").exists()
