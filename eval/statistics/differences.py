"""Two results compared: how much better the second is, with interval and p; pure, seeded.

Items that both answered are compared in pairs, which takes the items' own difficulty out of the difference. Answers
that are right or wrong are tested by McNemar's exact test with Tango's interval, other scores by flipping signs with a
bootstrap interval. Differences are second - first. Knows nothing of tasks.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from engine.errors import InputError
from eval.statistics.bootstrap import RESAMPLES, Seed, mean_draws, percentiles
from eval.statistics.intervals import Interval, paired_share_interval, unpaired_share_interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PERMUTATIONS: Final = 9999
_BATCH: Final = 1 << 22


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How a second result differs from a first one.

    `first` and `second` are means over the items compared, `value` is second - first. `interval` belongs to the test's
    family of methods, `bootstrap` is drawn from the items. `num_better` and `num_worse` count the pairs in which the
    second score is higher or lower; they are 0 where items are not paired.
    """

    first: float
    second: float
    value: float
    interval: Interval
    bootstrap: Interval
    p: float
    test: str
    is_paired: bool
    num_first: int
    num_second: int
    num_better: int = 0
    num_worse: int = 0

    @property
    def discordant(self) -> float | None:
        """Share of pairs in which the two differ, None where items are not paired."""
        return (self.num_better + self.num_worse) / self.num_first if self.is_paired else None


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, seed: Seed = 0, resamples: int = RESAMPLES
) -> Difference:
    """Return the difference of two scores of each item, in the same order; right or wrong is 1 or 0.

    Sources: McNemar 1947, exact; Tango 1998; Fisher's sign-flip permutation test. Raises InputError for no items,
    different numbers of them, or a score that is not finite.
    """
    import numpy as np

    before, after = _scores(first, second)
    if len(before) != len(after):
        found = f"{len(before)} and {len(after)}"
        raise InputError(f"paired scores must be of the same items, got {found}: pair them by id, or compare unpaired")
    gains = after - before
    value = float(gains.mean())
    num_better, num_worse = int((gains > 0).sum()), int((gains < 0).sum())
    bootstrap = percentiles(paired_draws(before, after, seed=seed, resamples=resamples), value)
    if _is_binary(before) and _is_binary(after):
        test, p = "McNemar, exact", mcnemar(num_better, num_worse)
        interval = paired_share_interval(num_better, num_worse, len(gains))
    else:
        test, p, interval = "permutation of signs", _flip_signs(gains, seed), bootstrap
    return Difference(
        first=float(np.mean(before)),
        second=float(np.mean(after)),
        value=value,
        interval=interval,
        bootstrap=bootstrap,
        p=p,
        test=test,
        is_paired=True,
        num_first=len(gains),
        num_second=len(gains),
        num_better=num_better,
        num_worse=num_worse,
    )


def unpaired_difference(
    first: Sequence[float], second: Sequence[float], *, seed: Seed = 0, resamples: int = RESAMPLES
) -> Difference:
    """Return the difference of scores of different items.

    Sources: Fisher's exact test and Newcombe's interval for right or wrong, else a permutation test of the groups and
    a bootstrap interval. Raises InputError for no items or a score that is not finite.
    """
    before, after = _scores(first, second)
    value = float(after.mean() - before.mean())
    bootstrap = percentiles(unpaired_draws(before, after, seed=seed, resamples=resamples), value)
    if _is_binary(before) and _is_binary(after):
        counts = [(int(group.sum()), len(group)) for group in (before, after)]
        test, p, interval = "Fisher, exact, unpaired", _fisher(*counts), unpaired_share_interval(*counts)
    else:
        test, p, interval = "permutation of groups, unpaired", _shuffle_groups(before, after, seed), bootstrap
    return Difference(
        first=float(before.mean()),
        second=float(after.mean()),
        value=value,
        interval=interval,
        bootstrap=bootstrap,
        p=p,
        test=test,
        is_paired=False,
        num_first=len(before),
        num_second=len(after),
    )


def paired_draws(
    first: "npt.ArrayLike", second: "npt.ArrayLike", *, seed: Seed = 0, resamples: int = RESAMPLES
) -> "npt.NDArray[np.float64]":
    """Return the difference of means over resampled items, shape [resamples]."""
    import numpy as np

    return mean_draws(np.subtract(second, first, dtype=np.float64), seed=seed, resamples=resamples)


def unpaired_draws(
    first: "npt.ArrayLike", second: "npt.ArrayLike", *, seed: Seed = 0, resamples: int = RESAMPLES
) -> "npt.NDArray[np.float64]":
    """Return the difference of means over two resampled groups, shape [resamples]."""
    # The groups must not be drawn in step: each has a seed of its own.
    seeds = seed if isinstance(seed, tuple) else (seed,)
    after = mean_draws(second, seed=(*seeds, 2), resamples=resamples)
    return after - mean_draws(first, seed=(*seeds, 1), resamples=resamples)


def mcnemar(num_better: int, num_worse: int) -> float:
    """Return the two-sided p that pairs which differ go either way alike. Source: McNemar's exact conditional test."""
    from statsmodels.stats.contingency_tables import mcnemar as test

    return float(test([[0, num_better], [num_worse, 0]], exact=True).pvalue) if num_better + num_worse else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return the p of several tests, each raised so that any false finding among them is as rare as one alone.

    Source: Holm 1979, step-down.
    """
    from statsmodels.stats.multitest import multipletests

    return tuple(float(p) for p in multipletests(p_values, method="holm")[1]) if p_values else ()


def _scores(
    first: Sequence[float], second: Sequence[float]
) -> "tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]":
    import numpy as np

    before, after = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    problems = []
    for name, group in (("first", before), ("second", after)):
        if not len(group):
            problems.append(f"the {name} result must have scores, got none: compare results that hold items")
        elif not np.isfinite(group).all():
            problems.append(f"the {name} result's scores must be finite, got {group[~np.isfinite(group)][0]}: drop it")
    if problems:
        raise InputError(problems)
    return before, after


def _is_binary(scores: "npt.NDArray[np.float64]") -> bool:
    return bool(((scores == 0) | (scores == 1)).all())


def _flip_signs(gains: "npt.NDArray[np.float64]", seed: Seed) -> float:
    """Return the p of a mean gain when each gain's sign is a coin's; exact where there are few items."""
    return _permuted((gains,), _mean, "samples", seed)


def _shuffle_groups(before: "npt.NDArray[np.float64]", after: "npt.NDArray[np.float64]", seed: Seed) -> float:
    """Return the p of a difference of means when the groups are drawn by lot."""
    return _permuted((before, after), _mean_difference, "independent", seed)


def _permuted(
    groups: "tuple[npt.NDArray[np.float64], ...]", statistic: Callable[..., object], kind: str, seed: Seed
) -> float:
    """Return the two-sided p of a permutation test; 1 where a group of one item leaves nothing to permute."""
    import numpy as np
    from scipy.stats import permutation_test

    if min(map(len, groups)) < 2:
        return 1.0
    done = permutation_test(
        groups,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=PERMUTATIONS,
        batch=max(_BATCH // sum(map(len, groups)), 1),
        rng=np.random.default_rng(seed),
    )
    return float(done.pvalue)


def _mean(gains: "npt.NDArray[np.float64]", axis: int) -> object:
    return gains.mean(axis=axis)


def _mean_difference(before: "npt.NDArray[np.float64]", after: "npt.NDArray[np.float64]", axis: int) -> object:
    return after.mean(axis=axis) - before.mean(axis=axis)


def _fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact([[right, number - right] for right, number in (first, second)]).pvalue)
