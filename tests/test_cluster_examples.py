"""The examples for clusters, as far as they can be checked without one: stand-ins for Slurm, documented fields."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.config import load
from tests.running import ROOT

CLUSTER = ROOT / "examples" / "cluster"
SLURM = CLUSTER / "slurm.sh"

# What KubeRay's API reference names, as far as it is used here.
JOB_FIELDS = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "clusterSelector",
    "deletionStrategy",
    "entrypoint",
    "entrypointNumCpus",
    "entrypointNumGpus",
    "entrypointResources",
    "jobId",
    "managedBy",
    "metadata",
    "rayClusterSpec",
    "runtimeEnvYAML",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterConfig",
    "submitterPodTemplate",
    "suspend",
    "ttlSecondsAfterFinished",
}
CLUSTER_FIELDS = {"authOptions", "headGroupSpec", "rayVersion", "workerGroupSpecs"}
HEAD_FIELDS = {"headService", "enableIngress", "rayStartParams", "serviceType", "template"}
WORKER_FIELDS = {"groupName", "maxReplicas", "minReplicas", "numOfHosts", "rayStartParams", "replicas", "template"}

SHIMS = {
    "scontrol": 'case $1 in show) echo one;; requeue) echo "requeue $2" >>"$LOG";; esac',
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "hostname": 'echo "127.0.0.2 10.1.2.3"',
}
DRIVER = """
import os, signal, sys, time
with open(os.environ["LOG"], "a") as log:
    print("sandplay", *sys.argv[1:], file=log)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("playing", flush=True)
time.sleep(float(os.environ["PLAY_S"]))
"""


def write_command(path: Path, text: str, interpreter: str = "/bin/bash") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{interpreter}\n{text}\n", "utf-8")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Stand-ins for Slurm and for `sandplay`, and the real Ray."""
    for name, text in SHIMS.items():
        write_command(tmp_path / "bin" / name, text)
    write_command(tmp_path / "venv" / "bin" / "sandplay", DRIVER, sys.executable)
    for name in ("python", "ray"):
        write_command(tmp_path / "venv" / "bin" / name, f'exec "{Path(sys.executable).parent / name}" "$@"')
    return {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "LOG": str(tmp_path / "log"),
        "CONFIG": "cluster.toml",
        "RUN": str(tmp_path / "run"),
        "VENV": str(tmp_path / "venv"),
        "TOKENS": str(tmp_path),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "one",
        "PLAY_S": "600",
    }


@pytest.fixture
def job(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        ["bash", SLURM], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def until_it_plays(job: "subprocess.Popen[str]") -> None:
    assert job.stdout is not None
    assert any(line == "playing\n" for line in job.stdout), "the job ended before it played"


@pytest.mark.timeout(200)
def test_the_slurm_job_stops_its_run_and_is_queued_again(
    tmp_path: Path, environment: dict[str, str], job: "subprocess.Popen[str]"
) -> None:
    until_it_plays(job)
    (token,) = tmp_path.glob(".ray-token-*")
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and len(token.read_text()) == 64
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 143
    port = 20000 + os.getpid() % 10000
    where, number = f"ray.address=127.0.0.2:{port}", environment["SLURM_JOB_ID"]
    generated = f"sandplay generate cluster.toml {where} --out {tmp_path / 'run'}"
    assert (tmp_path / "log").read_text().splitlines() == [generated, f"requeue {number}"]
    assert not token.exists()
    # The next try finds a run and resumes it; it plays to its end, and nothing is queued.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").touch()
    done = subprocess.run(["bash", SLURM], cwd=ROOT, env={**environment, "PLAY_S": "0"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text().splitlines()[2:] == [f"sandplay resume {tmp_path / 'run'} {where}"]


def test_the_slurm_job_says_what_it_lacks() -> None:
    done = subprocess.run(["bash", SLURM], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert done.returncode != 0 and "CONFIG: the configuration to play" in done.stderr


def test_the_manifest_names_documented_fields_and_one_image() -> None:
    settings, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec: dict[str, Any] = job["spec"]
    cluster = spec["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert spec.keys() <= JOB_FIELDS and cluster.keys() == CLUSTER_FIELDS
    assert head.keys() <= HEAD_FIELDS and workers.keys() <= WORKER_FIELDS
    assert cluster["authOptions"] == {"mode": "token"}
    assert all(isinstance(value, str) for group in (head, workers) for value in group["rayStartParams"].values())
    pods = [group["template"]["spec"] for group in (head, workers)]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1
    for pod in pods:
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    # One replica per GPU, and the version that the locks install.
    replicas = load_text(settings["data"]["cluster.toml"]).models["base"]
    gpus = int(pods[1]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]) * workers["replicas"]
    assert getattr(replicas, "replicas", 0) == gpus
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "requirements" / "gpu.txt").read_text("utf-8")


def load_text(text: str) -> Any:
    import tomllib

    return load(tomllib.loads(text))


def test_the_job_of_the_manifest_generates_first_and_then_resumes(tmp_path: Path) -> None:
    settings, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text("utf-8"))
    assert job["spec"]["entrypoint"] == "sh /config/play.sh"
    write_command(tmp_path / "bin" / "sandplay", 'echo "$@"')
    script = settings["data"]["play.sh"].replace("/runs/", f"{tmp_path}/").replace("/config/", "")
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RAY_ADDRESS": "10.0.0.1:6379"}

    def play() -> str:
        return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout

    run = tmp_path / "first"
    assert play() == f"generate cluster.toml ray.address=10.0.0.1:6379 --out {run}\n"
    run.mkdir()
    (run / "config.toml").touch()
    assert play() == f"resume {run} ray.address=10.0.0.1:6379\n"


def test_both_say_that_they_were_not_run_here() -> None:
    for file in (SLURM, CLUSTER / "kuberay.yaml"):
        assert "NOT RUN" in file.read_text("utf-8")[:100]
