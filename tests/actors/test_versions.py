import subprocess
import sys
from pathlib import Path

import pytest

from actors.cluster import import_ray
from actors.versions import make_reader, read_here, version_problems, version_table

HERE = {"Python": "3.11.7", "Ray": "2.60.0", "Sandplay": "abc", "vLLM": "none", "torch": "none", "model m": "2 files"}
NODE = {**HERE, "vLLM": "0.32.0", "torch": "2.9"}


def test_what_is_the_same_everywhere_is_no_problem() -> None:
    assert version_problems(HERE, {"a": NODE, "b": NODE}) == []  # the driver's machine needs no engine
    assert version_problems(HERE, {}) == []


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("Python", "3.12.1", "Python must be the same on every node, got 3.11.7 on here, a; 3.12.1 on b: install"),
        ("Sandplay", "def", "Sandplay must be the same on every node, got abc on here, a; def on b: install"),
        ("vLLM", "0.31.0", "vLLM must be the same on every node, got 0.32.0 on a; 0.31.0 on b: install"),
        ("torch", "2.8", "torch must be the same on every node, got 2.9 on a; 2.8 on b: install"),
        (
            "model m",
            "none",
            "model m must be the same on every node, got 2 files on here, a; none on b: bring it there",
        ),
    ],
)
def test_each_difference_is_one_sentence(what: str, value: str, said: str) -> None:
    (problem,) = version_problems(HERE, {"a": NODE, "b": {**NODE, what: value}})
    assert problem.startswith(said)


def test_all_problems_come_at_once_and_the_silent_are_named() -> None:
    nodes = {"a": NODE, "b": {**NODE, "Ray": "2.55.0", "vLLM": "none"}, "c": "no answer within 60 s"}
    problems = version_problems(HERE, nodes)
    assert [problem.split(" must ")[0] for problem in problems] == ["node c", "Ray", "vLLM"]
    assert "got 'no answer within 60 s'" in problems[0]
    assert version_table(HERE, nodes) == [
        "node  Python  Ray     Sandplay  vLLM    torch",
        "here  3.11.7  2.60.0  abc       none    none",
        "a     3.11.7  2.60.0  abc       0.32.0  2.9",
        "b     3.11.7  2.55.0  abc       none    2.9",
        "c     no answer within 60 s",
    ]


def test_replicas_everywhere_need_vllm() -> None:
    (problem,) = version_problems(HERE, {"a": {**NODE, "vLLM": "none"}})
    assert problem.startswith("vLLM must be the same on every node, got none on a")


def test_what_is_read_tells_models_and_sources_apart(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert read_here({"m": model})["model m"] == read_here({"m": tmp_path / "nowhere"})["model m"] == "none"
    (model / "config.json").write_text("{}")
    (model / ".cache").write_text("not counted")
    first = read_here({"m": model})
    assert first["model m"].startswith("1 files of 0 MB") and len(first["Sandplay"]) == 12
    (model / "config.json").write_text("{ }")
    again = read_here({"m": model})
    assert again["model m"] != first["model m"] and again["Sandplay"] == first["Sandplay"]


def test_the_reader_travels_without_this_code() -> None:
    cloudpickle = import_ray(None).cloudpickle
    code = (
        "import pickle, sys; sys.modules['actors'] = sys.modules['engine'] = None;"
        "print(pickle.loads(sys.stdin.buffer.read())({})['Sandplay'])"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, input=cloudpickle.dumps(make_reader()), capture_output=True, check=True)
    assert done.stdout == b"none\n"
