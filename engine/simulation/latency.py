"""How long one engine step takes: a sum of named features with non-negative coefficients, fitted to recorded steps.

Times are seconds in records and coefficients. `StepTimes` holds the same in whole picoseconds, so that the time of a
run of steps in closed form equals the sum of its steps exactly. Knows nothing of requests.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from engine.errors import InputError

PICOSECONDS: Final = 10**12
FEATURES: Final = ("base", "decode_seq", "context", "prefill_token", "prefill_pair", "batched")
FEW: Final = 2
"""A step of more tokens than that is `batched`: kernels for a vector give way to those for a matrix, once and for all.
On 2 cores that takes 8 ms of 60; without it runs with few live dialogues come out 4 % too fast."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One engine step as recorded: a line of a JSONL file.

    `sum_context` adds the tokens that each decoding sequence attends to, `prefill_pairs` the (token, attended token)
    pairs of the prefill chunks.
    """

    decode_seqs: int = 0
    sum_context: int = 0
    prefill_tokens: int = 0
    prefill_pairs: int = 0
    duration_s: float = 0.0

    @property
    def features(self) -> tuple[float, ...]:
        """The features' values, in the order of `FEATURES`."""
        is_batched = self.decode_seqs + self.prefill_tokens > FEW
        return 1.0, self.decode_seqs, self.sum_context, self.prefill_tokens, self.prefill_pairs, is_batched


class Coefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds per step (`base`), per decoding sequence, per token of their contexts, per prefill token and pair, and
    per step of more than `FEW` tokens (`batched`).

    `source` says where they are from. The residual figures are of the fit: `mean_error` is the mean absolute error over
    the mean step time, `total_error` that of the summed time, `r_squared` the explained share of the variance.
    """

    base: float
    decode_seq: float = 0.0
    context: float = 0.0
    prefill_token: float = 0.0
    prefill_pair: float = 0.0
    batched: float = 0.0
    source: str = ""
    num_steps: int = 0
    mean_error: float = 0.0
    total_error: float = 0.0
    r_squared: float = 0.0

    def __post_init__(self) -> None:
        bad = [f"{name} = {getattr(self, name)}" for name in FEATURES if not 0 <= getattr(self, name) < 1e6]
        if bad or not self.base > 0:
            found = ", ".join(bad) or f"base = {self.base}"
            raise ValueError(f"coefficients must be seconds >= 0 with base > 0, got {found}: fit them again")

    @property
    def weights(self) -> tuple[float, ...]:
        """The coefficients, in the order of `FEATURES`."""
        return self.base, self.decode_seq, self.context, self.prefill_token, self.prefill_pair, self.batched

    def seconds(self, step: StepRecord) -> float:
        """Return the modelled time of a step."""
        return sum(weight * value for weight, value in zip(self.weights, step.features, strict=True))

    def scaled(self, factor: float) -> "StepTimes":
        """Return the step times of a replica that takes `factor` times as long."""
        return StepTimes(*(round(weight * factor * PICOSECONDS) for weight in self.weights))


class StepTimes(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Coefficients in whole picoseconds."""

    base: int
    decode_seq: int
    context: int
    prefill_token: int
    prefill_pair: int
    batched: int

    def fixed(self, num_tokens: int) -> int:
        """Return what a step of so many tokens takes however long their contexts are."""
        return self.base + self.batched if num_tokens > FEW else self.base


CPU: Final = Coefficients(
    base=0.0285,
    decode_seq=0.0040,
    prefill_token=1 / 440,
    source="preset cpu: SmolLM2-135M in float32 on 2 cores, contexts of about 1,100 tokens; measured roughly",
)
# H200, 8B parameters dense in bf16 with grouped-query attention; first principles, no measurement:
#   base           16 GB of weights read once per step at 4.8 TB/s = 3.3 ms, + 2 ms of launch and host overhead
#   decode_seq     2 FLOP x 8e9 parameters per token at 500 TFLOP/s effective = 32 microseconds
#   context        131,072 B of KV per token (32 layers x 2 x 8 heads x 128 x 2 B) at 4.8 TB/s = 27.3 ns
#   prefill_token  as decode_seq: compute bound
#   prefill_pair   4 FLOP x 4,096 x 32 layers per pair at 500 TFLOP/s = 1.05 ns
# Memory and compute time are added, as if they never overlapped: an upper bound of each step.
GPU_8B: Final = Coefficients(
    base=16e9 / 4.8e12 + 0.002,
    decode_seq=2 * 8e9 / 500e12,
    context=131_072 / 4.8e12,
    prefill_token=2 * 8e9 / 500e12,
    prefill_pair=4 * 4096 * 32 / 500e12,
    source="preset h200-8b: derived from first principles, not measured",
)
PRESETS: Final = {"cpu": CPU, "h200-8b": GPU_8B}


def fit(steps: Sequence[StepRecord], source: str = "fitted") -> Coefficients:
    """Fit coefficients by non-negative least squares. Raises InputError for fewer than 10 steps."""
    import numpy as np
    from scipy.optimize import nnls

    steps = [step for step in steps if step.duration_s > 0]
    if len(steps) < 2 * len(FEATURES):
        raise InputError(f"a fit must have at least {2 * len(FEATURES)} steps, got {len(steps)}: record a longer run")
    rows = np.array([step.features for step in steps])
    seconds = np.array([step.duration_s for step in steps])
    # Columns span nine orders of magnitude: scaled to one, the solver's tolerance means the same for each.
    scale = np.maximum(np.abs(rows).max(axis=0), 1.0)
    weights = nnls(rows / scale, seconds)[0] / scale
    errors = rows @ weights - seconds
    variance = float(((seconds - seconds.mean()) ** 2).sum())
    return Coefficients(
        **dict(zip(FEATURES, (max(float(weights[0]), 1e-9), *map(float, weights[1:])), strict=True)),
        source=source,
        num_steps=len(steps),
        mean_error=float(np.abs(errors).mean() / seconds.mean()),
        total_error=float(abs(errors.sum()) / seconds.sum()),
        r_squared=1.0 - float((errors**2).sum()) / variance if variance else 1.0,
    )


def read_steps(path: Path) -> list[StepRecord]:
    """Read step records, one JSON object a line. Raises InputError naming the line."""
    steps: list[StepRecord] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            steps.append(msgspec.json.decode(line, type=StepRecord))
        except msgspec.DecodeError as error:
            raise InputError(f"{path}:{number} must be a step record, got: {error}") from None
    return steps


def write_steps(path: Path, steps: Iterable[StepRecord]) -> None:
    """Write step records, one JSON object a line."""
    path.write_bytes(b"".join(msgspec.json.encode(step) + b"\n" for step in steps))


class _Kept(msgspec.Struct):
    """The part of a kept speed (`engine.speed`) that simulations need; None in a file of coefficients alone."""

    coefficients: Coefficients | None = None


def read_coefficients(name: str) -> Coefficients:
    """Return a preset by name, coefficients from a JSON file, or a fit to a JSONL file of steps. Raises InputError.

    The file may be one that `sandplay calibrate --speed` kept.
    """
    if name in PRESETS:
        return PRESETS[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"coefficients must be a file or one of {', '.join(PRESETS)}, got {name!r}")
    if path.suffix == ".jsonl":
        return fit(read_steps(path), source=f"fitted to {path.name}")
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=_Kept).coefficients or msgspec.json.decode(data, type=Coefficients)
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError(f"{path} must hold coefficients as JSON, got: {error}") from None


def write_coefficients(path: Path, coefficients: Coefficients) -> None:
    """Write coefficients as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(coefficients)))
