"""Pictures of one machine: what fills each tier, how free memory stands to its watermarks, what time is lost to.

A frame is drawn from the machine's record alone (`tiergym.sim.layout`), so it never changes a trajectory.
"""

from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from tiergym.errors import UserError, suggest
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

MODES = ("ansi", "rgb_array")
FPS = 4
"""Frames per second of a film: one per tick of the default length, in real time."""

_WIDTH = 64
_LETTERS = "afLUksrom"
"""One letter per class, in the order of `names.CLASSES`."""
_COLOURS = (*(f"C{i}" for i in range(10)), "black", "gold")
"""Of the parts of a bar: classes, or work and the causes of lost time."""


def check_mode(mode: str | None) -> str | None:
    """`mode` itself if it can be rendered; raises `UserError`."""
    if mode is not None and mode not in MODES:
        raise UserError(suggest(str(mode), MODES, "render_mode"))
    return mode


def frame(record: np.void, mode: str) -> str | NDArray[np.uint8]:
    """One frame of one machine's record: text, or uint8 (height, width, 3)."""
    return ansi(record) if mode == "ansi" else rgb_array(record)


def ansi(record: np.void) -> str:
    """The machine as text: a bar of classes per tier, a line per zone, the lost time by cause."""
    lines = [f"tick {record['tick']} of {record['ticks']}   throughput {record['throughput']:.3f}"]
    used, managed = _per_tier(record["used_pages"]), _per_tier(record["managed_pages"])
    for tier in range(n.N_TIERS):
        if managed[tier] == 0:
            continue
        lengths = np.floor(used[:, tier] * (_WIDTH / managed[tier])).astype(int)
        bar = "".join(letter * length for letter, length in zip(_LETTERS, lengths, strict=True))
        lines.append(f"{n.TIERS[tier]:<5}{managed[tier] // PAGES_PER_MIB:>9} MiB [{bar:.<{_WIDTH}}]")
    for zone in np.flatnonzero(record["managed_pages"]):
        pages = record["wmark_pages"][:, zone] / PAGES_PER_MIB
        marks = "  ".join(f"{mark} {mib:.1f}" for mark, mib in zip(n.WMARKS, pages, strict=True))
        lines.append(f"  {n.ZONES[zone]:<13} free {record['free_pages'][zone] / PAGES_PER_MIB:.1f} MiB  ({marks})")
    kernel = "  ".join(
        f"{name} {used[i, n.FAST] / PAGES_PER_MIB:.1f}/{used[i, n.SLOW] / PAGES_PER_MIB:.1f}"
        for i, name in enumerate(n.CLASSES)
        if i >= n.FIRST_KERNEL_CLASS
    )
    lines.append(f"kernel MiB fast/slow: {kernel}")
    lost = "  ".join(f"{name} {share:.4f}" for name, share in zip(n.CAUSES, record["lost"], strict=True) if share > 0)
    lines.append(f"lost: {lost or 'nothing'}")
    lines.append("  ".join(f"{letter}={name}" for letter, name in zip(_LETTERS, n.CLASSES, strict=True)) + "  .=free")
    return "\n".join(lines) + "\n"


def rgb_array(record: np.void) -> NDArray[np.uint8]:
    """The machine as a picture, uint8 (480, 800, 3): classes per tier, free memory against watermarks, lost time."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyNotInstalled("rgb_array needs matplotlib: pip install 'tiergym[lab]'") from error
    figure = Figure(figsize=(10, 6), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    pages, zones, time = figure.subplots(3, 1, height_ratios=(3, 4, 2))
    figure.suptitle(f"tick {record['tick']} of {record['ticks']}, throughput {record['throughput']:.3f}")
    _draw_pages(pages, record)
    _draw_zones(zones, record)
    _draw_time(time, record)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


_MARK_COLOURS = ("tab:red", "tab:orange", "tab:green", "tab:blue")


def _per_tier(pages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over the zones, the last axis, of each tier."""
    return np.stack([pages[..., zones].sum(axis=-1) for zones in n.TIER_ZONES], axis=-1)


def _draw_pages(axes: Any, record: np.void) -> None:
    used, managed = _per_tier(record["used_pages"]), np.maximum(_per_tier(record["managed_pages"]), 1)
    _stack(axes, n.TIERS, n.CLASSES, used / managed)
    axes.set_xlabel("share of the tier's managed pages")


def _draw_zones(axes: Any, record: np.void) -> None:
    zones = np.flatnonzero(record["managed_pages"])
    rows = np.arange(len(zones))
    axes.barh(rows, record["free_pages"][zones] / PAGES_PER_MIB, color="0.8", label="free")
    for mark, pages, colour in zip(n.WMARKS, record["wmark_pages"], _MARK_COLOURS, strict=True):
        axes.plot(pages[zones] / PAGES_PER_MIB, rows, "|", ms=18, mew=2, color=colour, label=mark)
    axes.set_yticks(rows, [n.ZONES[zone] for zone in zones])
    # Watermarks are a thousandth of a zone: only a logarithm shows them beside an empty one.
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xlabel("MiB")
    _legend(axes)


def _draw_time(axes: Any, record: np.void) -> None:
    shares = np.concatenate([[record["throughput"]], record["lost"]])
    _stack(axes, ("time",), ("work", *n.CAUSES), shares[:, None])
    axes.set_xlabel("share of the tick")


def _stack(axes: Any, rows: tuple[str, ...], parts: tuple[str, ...], shares: NDArray[np.float64]) -> None:
    """Horizontal bars, one per row, of `shares` (parts, rows)."""
    left = np.zeros(len(rows))
    for i, part in enumerate(parts):
        axes.barh(rows, shares[i], left=left, color=_COLOURS[i], label=part)
        left += shares[i]
    axes.set_xlim(0, 1)
    axes.invert_yaxis()
    _legend(axes)


def _legend(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, ncols=2, frameon=False)
