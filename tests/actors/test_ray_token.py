"""The token that Ray asks for: our own one on loopback, and what is said when the user's does not fit."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors import ray_token
from actors.cluster import import_ray
from actors.ray_token import MODE, TOKEN, TOKEN_PATH, OwnToken
from engine.errors import BackendDown
from tests.running import ROOT, run
from tests.started_nodes import StartedCluster, started_cluster

pytestmark = pytest.mark.timeout(300)

OWN = """
import asyncio, json, os, sys
from pathlib import Path
from actors.cluster import join_cluster, leave_cluster
from actors.processes import ProcessTable

async def main(directory):
    table = ProcessTable(directory / "processes.json")
    ray = await join_cluster(None, table, lambda text: None)
    from ray._private import worker
    found = {"address": worker._global_node.gcs_address, "path": os.environ["RAY_AUTH_TOKEN_PATH"]}
    found["task"] = await ray.remote(lambda: dict(os.environ)).remote()
    print(json.dumps(found), flush=True)
    sys.stdin.readline()
    await leave_cluster(table)
    print(json.dumps({name: value for name, value in os.environ.items() if "AUTH" in name}))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def ray_on_loopback() -> None:
    import_ray(None)  # what reads the token imports Ray too, and the first import decides for all tests behind


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    # A Ray that other tests of this process are in keeps the token that it was given.
    monkeypatch.setattr(ray_token, "_read_again", lambda: None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[StartedCluster]:
    with started_cluster([1]) as started:
        yield started


@pytest.mark.usefixtures("no_token")
def test_our_own_lies_in_a_file_of_this_user_until_it_is_taken_back() -> None:
    token = OwnToken()
    token.lend()
    path = Path(os.environ[TOKEN_PATH])
    secret = path.read_text("ascii")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(bytes.fromhex(secret)) == 32 and os.environ[MODE] == "token" and TOKEN not in os.environ
    token.take_back()
    assert not path.parent.exists() and not {MODE, TOKEN_PATH} & os.environ.keys()
    token.lend()
    assert Path(os.environ[TOKEN_PATH]).read_text("ascii") != secret
    token.take_back()


@pytest.mark.usefixtures("no_token")
@pytest.mark.parametrize("chosen", [{MODE: "disabled"}, {TOKEN: "t"}, {TOKEN_PATH: "/p"}])
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str]) -> None:
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    token = OwnToken()
    token.lend()
    assert dict(os.environ) == before
    token.take_back()
    assert dict(os.environ) == before


@pytest.mark.usefixtures("no_token")
def test_a_ray_of_our_own_lets_nobody_in_without_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OWN, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
    )
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    secret = Path(found["path"]).read_text("ascii")
    assert secret not in json.dumps(found) and found["task"][TOKEN_PATH] == found["path"]
    with pytest.raises(BackendDown, match=r"must be shown the token .*, got none \(RAY_AUTH_MODE is unset\)"):
        ray_token.check_token(found["address"])
    out, _ = process.communicate("\n", timeout=60)
    assert json.loads(out) == {} and not Path(found["path"]).exists()
    assert not (tmp_path / ".ray").exists()  # where Ray would have left one that everybody may read


@pytest.mark.parametrize(
    ("shown", "got"),
    [
        ({}, "got none (RAY_AUTH_MODE is unset)"),
        ({MODE: "disabled"}, "got none (RAY_AUTH_MODE is 'disabled')"),
        ({MODE: "token", TOKEN: "not-that-one"}, "got another one (that of RAY_AUTH_TOKEN)"),
        ({MODE: "token", TOKEN_PATH: "/no/such/file"}, "got none (/no/such/file is empty or cannot be read)"),
    ],
)
@pytest.mark.usefixtures("no_token")
def test_a_token_that_does_not_fit_is_refused_at_once(
    cluster: StartedCluster, tmp_path: Path, shown: dict[str, str], got: str
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[ray]\naddress = "{cluster.address}"\n[models.a]\nmodel = "org/tiny"\n', "utf-8")
    said = run("fetch", config, expect=1, timeout_s=30, env={**shown, "HOME": str(tmp_path)})
    assert f"Ray at {cluster.address} must be shown the token that its nodes were started with, {got}" in said
    assert "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file that holds it" in said
    assert cluster.token not in said and "not-that-one" not in said
