"""A recorded curve as few straight lines, and straight lines as a sum of trapezoids, which regions can be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Curve = list[tuple[float, float]]
"""(seconds, size) at ascending times, straight lines between."""


@dataclass(slots=True)
class Trapezoid:
    """Grows from 0 to `size` over [start_s, full_s], stays, and shrinks to 0 over [leave_s, gone_s] (None: never)."""

    size: float
    start_s: float
    full_s: float
    leave_s: float | None = None
    gone_s: float | None = None


def simplify(t_s: NDArray[np.float64], size: NDArray[np.float64], tolerance: float) -> Curve:
    """A subset of the samples whose straight lines miss no sample by more than `tolerance`, in units of `size`.

    Ramer-Douglas-Peucker with the vertical distance: time is not size.
    """
    kept = {0, len(t_s) - 1}
    spans = [(0, len(t_s) - 1)]
    while spans:
        first, last = spans.pop()
        line = np.interp(t_s[first : last + 1], t_s[[first, last]], size[[first, last]])
        missed = np.abs(size[first : last + 1] - line)
        worst = first + int(np.argmax(missed))
        if missed[worst - first] > tolerance:
            kept.add(worst)
            spans += [(first, worst), (worst, last)]
    return [(float(t_s[i]), float(size[i])) for i in sorted(kept)]


def decompose(curve: Curve) -> list[Trapezoid]:
    """Trapezoids that add up to `curve`, which is not negative: one per rise, split where a fall takes a part.

    A fall takes what grew as one and has its size, the oldest first: a process that leaves. Otherwise it takes what
    grew last.
    """
    (start_s, size), *later = curve
    done: list[Trapezoid] = []
    live = [Trapezoid(size, start_s, start_s)] if size > 0 else []
    for now_s, now in later:
        if now > size:
            live.append(Trapezoid(now - size, start_s, now_s))
        elif now < size:
            taken, live = _take(live, size - now)
            for part in taken:
                part.leave_s, part.gone_s = start_s, now_s
            done += taken
        start_s, size = now_s, now
    return sorted(done + live, key=lambda part: part.start_s)


def _take(live: list[Trapezoid], size: float) -> tuple[list[Trapezoid], list[Trapezoid]]:
    """What leaves, and what stays of `live`."""
    for i, part in enumerate(live):
        if abs(part.size - size) < 0.5:
            return [part], live[:i] + live[i + 1 :]
    taken, stays = [], list(live)
    while stays and size > 0:
        last = stays.pop()
        part = Trapezoid(min(last.size, size), last.start_s, last.full_s)
        if last.size > size:
            stays.append(Trapezoid(last.size - size, last.start_s, last.full_s))
        taken.append(part)
        size -= part.size
    return taken, stays


def value_at(curve: Curve, t_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """The curve's sizes at `t_s`; before and after it, its first and last."""
    times, sizes = zip(*curve, strict=True)
    return np.interp(t_s, times, sizes)
