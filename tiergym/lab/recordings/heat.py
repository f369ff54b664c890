"""How often a recorded workload's pages were accessed, where the recording says so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiergym.lab.recordings.format import Recording
from tiergym.lab.recordings.request_curves import Requests

DEFAULT_HZ = 0.1
"""References per page and second where nothing was recorded: the default of a scenario's region."""
LINES_PER_REFERENCE = 16.0
"""Of a page's 64 lines, missed when a reference is all that is known. A counted access misses one."""
LARGEST_SHARE = 0.99
"""All pages referenced in a period says "often", not how often: at most 4.6 times per period."""


@dataclass(frozen=True, slots=True)
class Heat:
    """Of every touched page: references, cache and TLB misses per second, and where the numbers come from."""

    access_hz: float
    misses_per_page_s: float
    tlb_misses_per_page_s: float
    source: str


def heat_of(recording: Recording, requests: Requests) -> Heat:
    """One heat for all pages, from counted accesses or from accessed bits, else a default that says so."""
    touched = requests.anon + requests.sparse + requests.kv + requests.shmem + requests.mapped
    accesses = recording.column("w.page_accesses").astype(np.float64)
    counted = float(np.nansum(np.diff(accesses).clip(min=0)))
    page_seconds = float(np.trapezoid(touched, recording.t_s))
    if counted > 0 and page_seconds > 0:
        hz = counted / page_seconds
        return Heat(hz, hz, hz, f"{counted:.0f} counted accesses to pages (w.page_accesses), as a mean of all pages")
    window_s = float(recording.meta.get("referenced_window_s", 0.0))
    referenced = recording.column("w.referenced_pages").astype(np.float64)
    known = (referenced > 0) & (touched > 0)
    if window_s > 0 and known.any():
        share = min(float(np.median(referenced[known] / touched[known])), LARGEST_SHARE)
        hz = float(-np.log1p(-share)) / window_s
        source = f"accessed bits (w.referenced_pages): {share:.0%} of the pages were referenced within {window_s:g} s"
        return Heat(hz, LINES_PER_REFERENCE * hz, hz, source)
    source = "nothing in the recording; these are defaults, replace them with what you know"
    return Heat(DEFAULT_HZ, LINES_PER_REFERENCE * DEFAULT_HZ, DEFAULT_HZ, source)
