"""How often a recorded workload's pages were accessed, where the recording says so."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiergym.recordings.format import Recording
from tiergym.recordings.request_curves import RequestCurves

DEFAULT_HZ = 0.1
"""References per page and second where nothing was recorded: the default of a scenario's region."""
LINES_PER_REFERENCE = 16.0
"""Of a page's 64 lines, missed when a reference is all that is known. A counted access misses one."""
LEAST_SHARE = 0.01
"""A class of pages below this is not told apart, and a share nearer to 1 says "often", not how often."""
STEADY = 0.05
"""Looks at accessed bits count while memory changes by less: a page that is new was accessed in any case."""


@dataclass(frozen=True, slots=True)
class HeatClass:
    """A share of the touched pages: references, cache and TLB misses of each per second."""

    name: str
    share: float
    access_hz: float
    misses_per_page_s: float
    tlb_misses_per_page_s: float


@dataclass(frozen=True, slots=True)
class Heat:
    """Classes whose shares add up to 1, hottest first, and where the numbers come from."""

    classes: tuple[HeatClass, ...]
    source: str


def heat_of(recording: Recording, requests: RequestCurves) -> Heat:
    """Heat from counted accesses or from accessed bits, else a default that says so."""
    touched = requests.anon + requests.sparse + requests.kv + requests.shmem + requests.mapped
    accesses = recording.column("w.page_accesses").astype(np.float64)
    counted = float(np.nansum(np.diff(accesses).clip(min=0)))
    page_seconds = float(np.trapezoid(touched, recording.t_s))
    if counted > 0 and page_seconds > 0:
        hz = counted / page_seconds
        source = f"{counted:.0f} counted accesses to pages (w.page_accesses), as a mean of all pages"
        return Heat((HeatClass("", 1.0, hz, hz, hz),), source)
    looks = _looks(recording, touched)
    if looks:
        return _from_accessed_bits(looks)
    source = "nothing in the recording; these are defaults, replace them with what you know"
    return Heat((_referenced("", 1.0, DEFAULT_HZ),), source)


def _referenced(name: str, share: float, hz: float) -> HeatClass:
    return HeatClass(name, share, hz, LINES_PER_REFERENCE * hz, hz)


def _looks(recording: Recording, touched: NDArray[np.float64]) -> dict[float, float]:
    """Age of accessed bits in seconds -> share of the touched pages that were accessed within it, medians."""
    age_s = recording.column("w.referenced_age_ms") / 1e3
    pages = recording.column("w.referenced_pages").astype(np.float64)
    new = np.flatnonzero((np.diff(age_s, prepend=0.0) != 0) & (age_s > 0) & (touched > 0))
    before = np.interp(recording.t_s[new] - age_s[new], recording.t_s, touched)
    steady = new[np.abs(touched[new] - before) <= STEADY * touched[new]]
    if not steady.size:
        return {}
    # Looks are due at 1, 2 and 4 times the shortest age, and come a little late.
    power = np.rint(np.log2(age_s[steady] / age_s[steady].min()))
    share = np.minimum(pages[steady] / touched[steady], 1 - LEAST_SHARE)
    return {float(np.median(age_s[steady][power == p])): float(np.median(share[power == p])) for p in np.unique(power)}


def _from_accessed_bits(looks: dict[float, float]) -> Heat:
    """Pages that every look finds accessed are hot; the others at the rate at which more come with age.

    Not accessed for t seconds are (1 - hot) exp(-rate t): hot and rate from the youngest and the oldest look.
    """
    (young_s, first), (old_s, last) = min(looks.items()), max(looks.items())
    seen = ", ".join(f"{share:.0%} of the pages within {age_s:.2g} s" for age_s, share in sorted(looks.items()))
    source = f"accessed bits (w.referenced_pages): {seen}"
    if old_s == young_s:
        return Heat((_referenced("", 1.0, -math.log1p(-first) / young_s),), source)
    rate = max(0.0, math.log((1 - first) / (1 - last))) / (old_s - young_s)
    hot = 1 - (1 - first) * math.exp(rate * young_s)
    if hot < LEAST_SHARE:
        return Heat((_referenced("", 1.0, rate),), source)
    often_hz = -math.log(LEAST_SHARE) / young_s
    return Heat((_referenced("hot", hot, often_hz), _referenced("cold", 1 - hot, rate)), source)
