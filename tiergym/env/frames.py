"""A machine as a picture, drawn straight into an array: its last minute on the left, its present state in numbers, and
the action in words.

What never changes is drawn once; letters are made once each (with Pillow) and copied. So a frame takes milliseconds,
and a film of an episode seconds.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.history import LENGTH, History, largest_zone, per_tier
from tiergym.env.palette import (
    BACKGROUND,
    CAUSE_COLOURS,
    CLASS_COLOURS,
    FAINT,
    INK,
    KILL,
    MODE_COLOURS,
    WMARK_COLOURS,
    ink_on,
    rgb,
)
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

Picture = NDArray[np.uint8]
HEIGHT, WIDTH = 608, 1120
"""Pixels; multiples of 16, as films want them."""

_TEXT, _TITLE = 13, 15
_STEP = 2
"""Pixels of one step in a plot."""
_LEFT, _PLOT_WIDTH, _PLOT_HEIGHT = 78, LENGTH * _STEP, 66
_TOPS = tuple(range(58, HEIGHT - 70, 92))
"""Upper edges of the plots."""
_DRAM, _CXL, _KERNEL_DRAM, _KERNEL_CXL, _FREE, _LOST = _TOPS
_TITLES = (
    "DRAM: pages by class, % of it",
    "CXL: pages by class, % of it",
    "DRAM: kernel pages, MiB",
    "CXL: kernel pages, MiB",
    "free in DRAM's largest zone, MiB, log",
    "lost time by cause, %",
)
_NOW, _NUMBERS = 590, (760, 830)
"""Columns of the present state: names, and right edges of the numbers on each tier."""
_ACTION, _MODE = 860, 1010
"""Columns of the action: entries, modes."""
_ROW = 20
_CLASSES_TOP, _CAUSES_TOP, _ACTION_TOP = 78, 320, 78
_CLASS_PALETTE = np.array([rgb(BACKGROUND), *(rgb(CLASS_COLOURS[name]) for name in n.CLASSES)], np.uint8)
_CAUSE_PALETTE = np.array([rgb(BACKGROUND), *(rgb(CAUSE_COLOURS[name]) for name in n.CAUSES)], np.uint8)
_KERNEL_FIRST = [*range(n.FIRST_KERNEL_CLASS, n.N_CLASSES), *range(n.FIRST_KERNEL_CLASS)]


def draw(record: np.void, history: History, machine: int, name: str) -> Picture:
    """One machine as uint8 (HEIGHT, WIDTH, 3): its record, its place in the history, its scenario's name.

    Raises `DependencyNotInstalled` without Pillow.
    """
    picture = _background(name).copy()
    order = history.order(machine)
    pages = history.pages[order, machine]
    managed = np.maximum(per_tier(record["managed_pages"]), 1)
    kernel = pages[:, n.FIRST_KERNEL_CLASS :] / PAGES_PER_MIB
    most = _round_up(float(kernel.sum(axis=1).max(initial=1.0)))
    for tier, top in ((n.FAST, _DRAM), (n.SLOW, _CXL)):
        _stack(picture, top, pages[:, _KERNEL_FIRST, tier] / managed[tier], _CLASS_PALETTE[[0, *_shifted()]])
    for tier, top in ((n.FAST, _KERNEL_DRAM), (n.SLOW, _KERNEL_CXL)):
        palette = _CLASS_PALETTE[[0, *range(n.FIRST_KERNEL_CLASS + 1, n.N_CLASSES + 1)]]
        _stack(picture, top, kernel[:, :, tier] / most, palette)
        _label(picture, top, f"{most:,.0f}")
    _draw_free(picture, record, history, machine, order)
    lost = history.lost[order, machine]
    worst = _round_up(max(0.01, float(lost.sum(axis=1).max(initial=0.0))))
    _stack(picture, _LOST, lost / worst, _CAUSE_PALETTE)
    _label(picture, _LOST, f"{100 * worst:g}")
    _draw_kills(picture, history.killed[order, machine])
    _draw_numbers(picture, record)
    _draw_action(picture, record["action"])
    return picture


def _shifted() -> list[int]:
    """Rows of the classes' palette, kernel classes first."""
    return [cls + 1 for cls in _KERNEL_FIRST]


def _columns(picture: Picture, top: int, steps: int) -> Picture:
    """The part of a plot that `steps` fill: the newest one is on the right."""
    right = _LEFT + _PLOT_WIDTH
    return picture[top : top + _PLOT_HEIGHT, right - steps * _STEP : right]


def _stack(picture: Picture, top: int, shares: NDArray[np.floating], palette: Picture) -> None:
    """Bands from the bottom up, of shares (steps, bands) of the plot's height; `palette` begins with the background."""
    edges = np.cumsum(shares, axis=1)
    # The middle of each row of pixels, from the top down.
    heights = (np.arange(_PLOT_HEIGHT, 0, -1) - 0.5) / _PLOT_HEIGHT
    band = np.ones((_PLOT_HEIGHT, len(shares)), np.uint8)
    for edge in edges.T:
        band += heights[:, None] > edge  # in the end, one more than the bands that lie below
    band[band == len(palette)] = 0
    _columns(picture, top, len(shares))[...] = palette[np.repeat(band, _STEP, axis=1)]


def _draw_free(picture: Picture, record: np.void, history: History, machine: int, order: NDArray[np.int64]) -> None:
    """Free pages of a zone and its marks on a logarithmic scale, up to the whole zone."""
    zone = int(largest_zone(np.array([record]))[0])
    size = max(float(record["managed_pages"][zone]) / PAGES_PER_MIB, 1.0)
    marks = history.marks[order, machine]
    for mark in (n.WMARK_HIGH, n.WMARK_LOW, n.WMARK_MIN):
        _line(picture, _FREE, marks[:, mark] / PAGES_PER_MIB, size, WMARK_COLOURS[n.WMARKS[mark]], 1)
    _line(picture, _FREE, history.free[order, machine] / PAGES_PER_MIB, size, INK, 2)
    _label(picture, _FREE, f"{size:,.0f}")


def _line(picture: Picture, top: int, values: NDArray[np.floating], size: float, colour: str, width: int) -> None:
    """A line through `values` (steps,), drawn from each height to the next."""
    if len(values) == 0:
        return
    shares = np.log1p(np.maximum(values, 0)) / np.log1p(size)
    rows = np.clip(((1 - shares) * (_PLOT_HEIGHT - 1)).round().astype(int), 0, _PLOT_HEIGHT - 1)
    before = np.concatenate([rows[:1], rows[:-1]])
    row = np.arange(_PLOT_HEIGHT)[:, None]
    drawn = (row >= np.minimum(rows, before)) & (row < np.maximum(rows, before) + width)
    _columns(picture, top, len(values))[np.repeat(drawn, _STEP, axis=1)] = rgb(colour)


def _draw_kills(picture: Picture, killed: NDArray[np.bool_]) -> None:
    """A line through all plots where a process was killed."""
    for top in _TOPS:
        part = _columns(picture, top, len(killed))
        part[:, np.flatnonzero(killed) * _STEP] = rgb(KILL)


def _draw_numbers(picture: Picture, record: np.void) -> None:
    """The line on top, and how many pages and how much time each class and cause has."""
    tick, ticks, dt_s = int(record["tick"]), int(record["ticks"]), float(record["dt_s"])
    _digits(picture, 12, _NOW, f"tick {tick} of {ticks}, {tick * dt_s:.2f} s", _TITLE)
    _digits(picture, 12, _ACTION, f"throughput {100 * float(record['throughput']):.1f} %", _TITLE)
    used = per_tier(record["used_pages"]) / PAGES_PER_MIB
    for cls in range(n.N_CLASSES):
        for tier, right in enumerate(_NUMBERS):
            _digits(picture, _CLASSES_TOP + cls * _ROW, right, _mib(float(used[cls, tier])), align_right=True)
    for cause in range(n.N_CAUSES):
        share = 100 * float(record["lost"][cause])
        text = f"{share:.2f}" if share else "-"
        _digits(picture, _CAUSES_TOP + cause * _ROW, _NUMBERS[0], text, align_right=True)


def _draw_action(picture: Picture, action: NDArray[np.integer]) -> None:
    """Every entry's mode in its colour; Linux's default without one."""
    for row, (entry, mode) in enumerate(zip(act.ENTRIES, action.tolist(), strict=True)):
        top = _ACTION_TOP + row * _ROW
        colour = MODE_COLOURS[mode] if mode != entry.default else BACKGROUND
        picture[top - 1 : top + _ROW - 3, _MODE - 4 : WIDTH - 12] = rgb(colour)
        _put(picture, top, _MODE, _letters(entry.modes[mode], _TEXT), ink_on(colour))


@lru_cache(maxsize=32)
def _background(name: str) -> Picture:
    """Titles, names, colours and axes, which are the same in all frames of a scenario."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    picture[:] = rgb(BACKGROUND)
    _put(picture, 12, 16, _letters(name, _TITLE), INK)
    for top, title in zip(_TOPS, _TITLES, strict=True):
        _put(picture, top - 19, _LEFT, _letters(title, _TEXT), INK)
        picture[top : top + _PLOT_HEIGHT + 1, _LEFT - 1] = rgb(FAINT)
        picture[top + _PLOT_HEIGHT, _LEFT - 1 : _LEFT + _PLOT_WIDTH] = rgb(FAINT)
        _digits(picture, top + _PLOT_HEIGHT - 12, _LEFT - 8, "0", align_right=True)
    for top in (_DRAM, _CXL):
        _label(picture, top, "100")
    left = _LEFT + 250
    for mark in (n.WMARK_HIGH, n.WMARK_LOW, n.WMARK_MIN):
        picture[_FREE - 13 : _FREE - 11, left : left + 16] = rgb(WMARK_COLOURS[n.WMARKS[mark]])
        _put(picture, _FREE - 19, left + 21, _letters(n.WMARKS[mark], _TEXT), INK)
        left += 62
    _put(picture, _LOST + _PLOT_HEIGHT + 5, _LEFT, _letters(f"{LENGTH} steps ago", _TEXT), FAINT)
    now = _letters("now", _TEXT)
    _put(picture, _LOST + _PLOT_HEIGHT + 5, _LEFT + _PLOT_WIDTH - now.shape[1], now, FAINT)
    _heading(picture, _CLASSES_TOP, _NOW, "pages, MiB")
    for title, right in zip(("DRAM", "CXL"), _NUMBERS, strict=True):
        letters = _letters(title, _TEXT)
        _put(picture, _CLASSES_TOP - 24, right - letters.shape[1], letters, INK)
    _heading(picture, _CAUSES_TOP, _NOW, "lost time, %")
    for first, colours in ((_CLASSES_TOP, CLASS_COLOURS), (_CAUSES_TOP, CAUSE_COLOURS)):
        for row, (what, colour) in enumerate(colours.items()):
            top = first + row * _ROW
            picture[top : top + 13, _NOW : _NOW + 13] = rgb(FAINT)
            picture[top + 1 : top + 12, _NOW + 1 : _NOW + 12] = rgb(colour)
            _put(picture, top, _NOW + 20, _letters(what.replace("_", " "), _TEXT), INK)
    _heading(picture, _ACTION_TOP, _ACTION, "action in force")
    for row, entry in enumerate(act.ENTRIES):
        _put(picture, _ACTION_TOP + row * _ROW, _ACTION, _letters(entry.name, _TEXT), INK)
    picture.setflags(write=False)
    return picture


def _heading(picture: Picture, top: int, left: int, text: str) -> None:
    """Above a column of rows that begins at `top`."""
    _put(picture, top - 24, left, _letters(text, _TEXT), INK)
    picture[top - 6, left : left + 240] = rgb(FAINT)


def _label(picture: Picture, top: int, text: str) -> None:
    """What the upper end of a plot's axis means."""
    _digits(picture, top - 3, _LEFT - 8, text, align_right=True)


def _mib(value: float) -> str:
    """MiB of a class: whole ones, tenths of few, or nothing."""
    if value == 0:
        return "-"
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(k * power for k in (1, 2, 5, 10) if k * power >= value * (1 - 1e-9)))


def _digits(picture: Picture, top: int, at: int, text: str, size: int = _TEXT, align_right: bool = False) -> None:
    """Text that changes, of letters that are made once each; `at` is its left or its right edge."""
    letters = np.concatenate([_letters(letter, size) for letter in text], axis=1)
    _put(picture, top, at - letters.shape[1] if align_right else at, letters, INK)


def _put(picture: Picture, top: int, left: int, letters: NDArray[np.float32], colour: str) -> None:
    """Letters, float32 (height, width) of how much ink each pixel has, in a colour."""
    height, width = letters.shape
    part = picture[top : top + height, left : left + width]
    ink = letters[: part.shape[0], : part.shape[1], None]
    part[...] = part + (np.array(rgb(colour), np.float32) - part) * ink


@lru_cache(maxsize=1024)
def _letters(text: str, size: int) -> NDArray[np.float32]:
    """Text as ink, float32 (height, width) in [0, 1]."""
    image, font = _pillow(size)
    width = max(1, round(font.getlength(text)))
    canvas = image.Image.new("L", (width, size + 5))
    image.ImageDraw.Draw(canvas).text((0, 0), text, font=font, fill=255)
    return np.asarray(canvas, np.float32) / np.float32(255)


@lru_cache(maxsize=4)
def _pillow(size: int) -> tuple[Any, Any]:
    """Pillow, and its own font in a size in pixels."""
    try:
        import PIL.Image
        import PIL.ImageDraw
        import PIL.ImageFont
    except ImportError as error:
        raise DependencyNotInstalled("rgb_array needs Pillow: pip install 'tiergym[lab]'") from error
    return PIL, PIL.ImageFont.load_default(size)
