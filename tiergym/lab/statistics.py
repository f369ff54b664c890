"""95 % bootstrap intervals for means of episodes, paired differences, interquartile means.

What an interval covers is decided by the shape of the values. A fixed policy has values of shape
(1, episodes): its interval covers the variation between episodes (drawn machines and workloads).
A learned policy trained with several seeds has (runs, episodes): runs and episodes are resampled
both, so its interval covers the variation between training runs as well. Every policy of a
comparison is resampled on the same episodes (common random numbers), which is what makes paired
differences narrow (Agarwal et al., NeurIPS 2021, for the practice).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000
STRATIFIED_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the bounds of its 95 % bootstrap interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """`{"mean": …, "low": …, "high": …}`, the form of every JSON file."""
        return asdict(self)


class Bootstrap:
    """The resamples of one comparison: draw once, apply to every policy and metric.

    Args:
        episodes: episodes per policy (length of the values' last axis).
        seed: seed of the resampling; the same seed gives the same intervals.
        resamples: how many resamples.
    """

    def __init__(self, episodes: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        self._seed = seed
        self._resamples = resamples
        self._episode_weights = self._weights(episodes, stream=0)

    def interval(self, values: Array) -> Interval:
        """Interval of the mean of `values`, shape (runs, episodes) or (episodes,)."""
        values = np.atleast_2d(np.asarray(values, dtype=np.float64))
        return _around(values.mean(), self._deviations(values, stream=1))

    def difference(self, values: Array, reference: Array) -> Interval:
        """Interval of mean(values) - mean(reference), paired by episode; shapes as in `interval`."""
        values = np.atleast_2d(np.asarray(values, dtype=np.float64))
        reference = np.atleast_2d(np.asarray(reference, dtype=np.float64))
        deviations = self._deviations(values, stream=1) - self._deviations(reference, stream=2)
        return _around(values.mean() - reference.mean(), deviations)

    def _deviations(self, values: Array, stream: int) -> Array:
        """Mean of each resample less the mean of all values, shape (resamples,)."""
        centred = values - values.mean()
        if len(values) == 1:
            return self._episode_weights @ centred[0]
        return ((self._weights(len(values), stream) @ centred) * self._episode_weights).sum(axis=1)

    def _weights(self, count: int, stream: int) -> Array:
        """Share of each of `count` items in each resample, shape (resamples, count); rows add up to 1."""
        rng = np.random.default_rng([self._seed, stream])
        return rng.multinomial(count, np.full(count, 1 / count), size=self._resamples) / count


def interquartile_mean(values: Array) -> Any:
    """Mean of the middle half along the last axis: the quarter at either end is left out."""
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def stratified_iqm(strata: Sequence[Array], seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Interquartile mean over all values, resampled within each stratum (scenario)."""
    rng = np.random.default_rng([seed, 3])
    drawn = [stratum.ravel()[rng.integers(stratum.size, size=(resamples, stratum.size))] for stratum in strata]
    mean = interquartile_mean(np.concatenate([stratum.ravel() for stratum in strata]))
    return _around(mean, interquartile_mean(np.concatenate(drawn, axis=1)) - mean)


def stratified(
    statistic: Callable[[Sequence[Array]], float],
    strata: Sequence[Array],
    seed: int = 0,
    resamples: int = STRATIFIED_RESAMPLES,
) -> Interval:
    """A statistic of all strata (scenarios) with its interval: episodes, the last axis, are resampled within each
    stratum, and runs of training, an axis before it, as well."""
    rng = np.random.default_rng([seed, 4])
    value = statistic(strata)
    drawn = np.array([statistic([_resampled(each, rng) for each in strata]) for _ in range(resamples)])
    return _around(value, drawn - value)


def _resampled(stratum: Array, rng: np.random.Generator) -> Array:
    episodes = stratum[..., rng.integers(stratum.shape[-1], size=stratum.shape[-1])]
    if stratum.ndim == 1 or stratum.shape[-2] == 1:
        return episodes
    return episodes[..., rng.integers(stratum.shape[-2], size=stratum.shape[-2]), :]


def pooled_iqm(strata: Sequence[Array]) -> float:
    """Interquartile mean over all values of all strata."""
    return float(interquartile_mean(np.concatenate([stratum.ravel() for stratum in strata])))


def worst_tenth(strata: Sequence[Array]) -> float:
    """Mean of the lowest tenth of all values: the conditional value at risk at 10 %."""
    ordered = np.sort(np.concatenate([stratum.ravel() for stratum in strata]))
    return float(ordered[: max(1, round(len(ordered) / 10))].mean())


def mean_improved(differences: Sequence[Array]) -> float:
    """Probability of improvement: the share of episodes that one policy wins over another, ties counting half, as a
    mean over strata of equal weight. `differences` are paired by episode."""
    return float(np.mean([np.mean((each > 0) + 0.5 * (each == 0)) for each in differences]))


def performance_profile(strata: Sequence[Array], thresholds: Array) -> Array:
    """Of all values, the share above each threshold, float64 (thresholds,)."""
    ordered = np.sort(np.concatenate([stratum.ravel() for stratum in strata]))
    return 1.0 - np.searchsorted(ordered, thresholds, side="right") / len(ordered)


def _around(mean: float | np.floating, deviations: Array) -> Interval:
    low, high = np.quantile(deviations, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    # Where nothing varies, the last bit of the mean of equal numbers must not put it outside.
    return Interval(float(mean), float(mean + min(low, 0)), float(mean + max(high, 0)))
