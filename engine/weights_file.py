"""Safetensors files: what they hold, and whether it can be used, without loading a model.

    8 bytes length N, little endian | N bytes JSON: name -> dtype, shape, data_offsets | data

Source: the safetensors format. Reads headers and, for finiteness, the data through a memory map; needs numpy for that.
Every fault found is a `WeightsError`: one sentence of rule and value found.
"""

import hashlib
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from engine.errors import InputError

MAX_HEADER: Final = 100_000_000
"""Bytes; the format's own limit."""

_SIZES: Final = {
    **{"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2},
    **{"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1},
}
# Bits of the exponent: all set means infinite or no number.
_EXPONENTS: Final = {"F64": 0x7FF0_0000_0000_0000, "F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}
_CHUNK: Final = 1 << 22


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's contents (hexadecimal)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_weights(directory: Path) -> str:
    """Return the SHA-256 over names and contents of a directory's safetensors (hexadecimal).

    Raises `InputError` when there are none.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise InputError(f"weights must be *.safetensors, got none in {directory}: give a model directory")
    return hashlib.sha256("".join(f"{file.name}={file_digest(file)}\n" for file in files).encode()).hexdigest()


class WeightsError(Exception):
    """A weights file that cannot be used, as one sentence."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor as the header says; offsets are bytes behind the header."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]

    @property
    def num_values(self) -> int:
        """Values it holds."""
        number = 1
        for size in self.shape:
            number *= size
        return number


def read_header(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the tensors by name, and where the data begins.

    Raises WeightsError when the file is no whole safetensors file, OSError when it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise WeightsError(f"{path.name} must be a whole safetensors file, got {size} bytes for its header")
        head = file.read(length)
    try:
        table: dict[str, Any] = msgspec.json.decode(head, type=dict[str, Any])
        table.pop("__metadata__", None)
        tensors = msgspec.convert(table, dict[str, Tensor])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path.name} must have a safetensors header, got {error}") from None
    _require_whole(path.name, tensors, size - 8 - length)
    return tensors, 8 + length


def _require_whole(name: str, tensors: Mapping[str, Tensor], num_bytes: int) -> None:
    """Every tensor has its bytes, none overlaps another, and nothing is left over."""
    at = 0
    for tensor_name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, end = tensor.data_offsets
        wanted = tensor.num_values * _SIZES.get(tensor.dtype, 0)
        if tensor.dtype not in _SIZES or start != at or end - start != wanted:
            shape = "x".join(map(str, tensor.shape))
            raise WeightsError(f"{name}: {tensor_name} must be {shape} {tensor.dtype} at {at}, got bytes {start}-{end}")
        at = end
    if at != num_bytes:
        raise WeightsError(f"{name} must have {at} bytes of data, got {num_bytes}: it is cut off or damaged")


def first_not_finite(path: Path, tensors: Mapping[str, Tensor], begin: int) -> str | None:
    """Return the name of a tensor that holds an infinity or no number, None when there is none; reads it all."""
    import numpy as np

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for name, tensor in tensors.items():
            mask = _EXPONENTS.get(tensor.dtype)
            if mask is None:
                continue
            size = _SIZES[tensor.dtype]
            start, end = (begin + offset for offset in tensor.data_offsets)
            for at in range(start, end, _CHUNK):
                values = np.frombuffer(data[at : min(at + _CHUNK, end)], dtype=f"<u{size}")
                if ((values & values.dtype.type(mask)) == mask).any():
                    return name
    return None
