"""Checkpoints: described, whole or absent; every way in which one can be bad is found and named before it is served."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.checkpoints import CARD, Checkpoint, CheckpointError, Registry, publish, verify
from engine.errors import InputError
from engine.weights_file import WeightsError, first_not_finite, read_header
from tests.small_checkpoints import BASE, make_adapter, make_base, make_full, write_weights


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_base(tmp_path / "base")


def describe_again(path: Path, **changes: object) -> None:
    """Write a description that fits the files, as somebody would who tampers with them."""
    card = json.loads((path / CARD).read_text())
    shutil.move(path, path.with_name("draft"))
    path.with_name("draft").joinpath(CARD).unlink()
    made = Checkpoint(version=path.name, kind=card["kind"], base=card["base"], files={})
    publish(path.with_name("draft"), path, replace(made, **changes))  # type: ignore[arg-type]


def test_good_checkpoints_may_be_served(base: Path, tmp_path: Path) -> None:
    full, lora = tmp_path / "r1", tmp_path / "r2"
    made, adapter = make_full(base, full), make_adapter(base, lora)
    assert verify(full, base) == made and set(made.files) == {"config.json", "model.safetensors"}
    assert verify(lora, base) == adapter and adapter.kind == "lora"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "r1", "r2"]


Spoil = Callable[[Path], None]


def cut_off(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])


def cut_off_and_described(path: Path) -> None:
    cut_off(path)
    describe_again(path)


def wrong_shape(path: Path) -> None:
    write_weights(path / "model.safetensors", {**BASE, "layer.weight": (6, 4)})
    describe_again(path)


def missing_tensor(path: Path) -> None:
    write_weights(path / "model.safetensors", {"layer.weight": (4, 6)})
    describe_again(path)


def unknown_tensor(path: Path) -> None:
    write_weights(path / "model.safetensors", {**BASE, "extra": (1,)})
    describe_again(path)


def not_finite(path: Path) -> None:
    write_weights(path / "model.safetensors", BASE, float("nan"))
    describe_again(path)


def infinite(path: Path) -> None:
    write_weights(path / "model.safetensors", BASE, float("-inf"))
    describe_again(path)


def no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()
    describe_again(path)


def pickled(path: Path) -> None:
    (path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    describe_again(path)


def linked(path: Path) -> None:
    (path / "model.safetensors").rename(path.parent / "elsewhere")
    (path / "model.safetensors").symlink_to(path.parent / "elsewhere")


def changed_by_a_bit(path: Path) -> None:
    data = bytearray((path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (path / "model.safetensors").write_bytes(data)


def noted(path: Path) -> None:
    (path / "notes.txt").write_text("?")


def half_described(path: Path) -> None:
    (path / CARD).write_text('{"version": ')


BAD: dict[str, tuple[Spoil, str]] = {
    "cut off": (cut_off, "was changed or is cut off"),
    "cut off and described anew": (cut_off_and_described, "must have 120 bytes of data, got 116"),
    "a bit": (changed_by_a_bit, "must have the SHA-256"),
    "another shape": (wrong_shape, r"layer.weight must have the shape \[4, 6\], got \[6, 4\]"),
    "a tensor too few": (missing_tensor, "norm.weight must be there"),
    "a tensor too many": (unknown_tensor, "extra must be a tensor of the base"),
    "another base": (lambda path: describe_again(path, base="0" * 64), "its base must be the served model"),
    "no configuration": (lambda path: (path / "config.json").unlink(), "config.json must be there"),
    "no number": (not_finite, "layer.weight must be finite"),
    "infinity": (infinite, "layer.weight must be finite"),
    "no weights": (no_weights, "got none: save as safetensors"),
    "a pickle": (pickled, "must not be a pickle"),
    "a link": (linked, "must be a file, got a link"),
    "a file too many": (noted, "notes.txt must be named in"),
    "no description": (lambda path: (path / CARD).unlink(), "must hold checkpoint.json"),
    "half a description": (half_described, "must describe a checkpoint"),
    "gone": (shutil.rmtree, "must hold checkpoint.json"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_checkpoint_is_refused_with_its_reason(base: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "registry" / "r1"
    make_full(base, path)
    spoil, reason = BAD[name]
    spoil(path)
    with pytest.raises(CheckpointError, match=reason):
        verify(path, base)


def test_all_that_is_wrong_is_named_at_once(base: Path, tmp_path: Path) -> None:
    make_full(base, tmp_path / "r1")
    for spoil in (changed_by_a_bit, pickled, lambda path: (path / "config.json").unlink()):
        spoil(tmp_path / "r1")
    with pytest.raises(CheckpointError) as refused:
        verify(tmp_path / "r1", base)
    assert len(refused.value.problems) >= 2


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"base_model.model.layer.lora_A.weight": (2, 5)}, r"must fit layer.weight \[4, 6\]"),
        ({"base_model.model.layer.lora_B.weight": (6, 2)}, r"must fit layer.weight \[4, 6\]"),
        ({"base_model.model.other.lora_A.weight": (2, 6)}, "got none called other.weight"),
        ({"base_model.model.norm.lora_A.weight": (6,)}, "must adapt a weight of the base"),
    ],
)
def test_an_adapter_must_fit_its_base(
    base: Path, tmp_path: Path, shapes: Mapping[str, tuple[int, ...]], reason: str
) -> None:
    make_adapter(base, tmp_path / "r1", shapes)
    with pytest.raises(CheckpointError, match=reason):
        verify(tmp_path / "r1", base)


def test_the_registry_knows_what_is_current(base: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints")
    assert registry.current is None and registry.names() == []
    make_full(base, registry.place("r1"))
    registry.set_current("r1")
    assert Registry(registry.path).current == "r1" and registry.names() == ["r1"]
    with pytest.raises(CheckpointError, match="must hold"):
        registry.set_current("r2")
    assert registry.current == "r1"
    registry.set_current(None)
    assert registry.current is None


def test_what_was_not_finished_is_no_checkpoint(base: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints")
    make_full(base, registry.place("r1"))
    half = registry.path / ".r2.tmp"
    half.mkdir()
    write_weights(half / "model.safetensors", BASE)
    registry.remove_leftovers()
    assert registry.names() == ["r1"] and not half.exists()


@pytest.mark.parametrize("version", ["", "../r1", "a/b", ".hidden", "x" * 101])
def test_a_version_is_a_plain_name(base: Path, tmp_path: Path, version: str) -> None:
    made = Checkpoint(version=version, kind="full", base="", files={})
    with pytest.raises(InputError, match="a version must be letters"):
        publish(base, tmp_path / "registry" / "r1", made)


def test_a_name_is_given_once(base: Path, tmp_path: Path) -> None:
    make_full(base, tmp_path / "r1")
    with pytest.raises(InputError, match="must get a new name"):
        make_full(base, tmp_path / "r1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "got 0 bytes"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "for its header"),
        ((2).to_bytes(8, "little") + b"[]", "must have a safetensors header"),
        ((4).to_bytes(8, "little") + b"\xff\xff\xff\xff", "must have a safetensors header"),
    ],
)
def test_a_file_that_is_no_safetensors_file(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=reason):
        read_header(path)


@pytest.mark.parametrize(("dtype", "good", "bad"), [("F16", 0x7BFF, 0x7C00), ("BF16", 0x7F7F, 0xFF80)])
def test_half_precision_is_looked_at_by_its_bits(tmp_path: Path, dtype: str, good: int, bad: int) -> None:
    path = tmp_path / "model.safetensors"
    for value, found in ((good, None), (bad, "w")):
        head = json.dumps({"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 4]}, "__metadata__": {}}).encode()
        path.write_bytes(len(head).to_bytes(8, "little") + head + value.to_bytes(2, "little") * 2)
        assert first_not_finite(path, *read_header(path)) == found
