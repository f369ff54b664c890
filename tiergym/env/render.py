"""Pictures of machines: what fills each tier, how free memory stands to its watermarks, what time is lost to.

A frame is drawn from the machines' records alone (`tiergym.sim.layout`), so it never changes a trajectory.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tiergym.env import frames
from tiergym.env.history import History, per_tier
from tiergym.errors import UserError, suggest
from tiergym.sim import names as n
from tiergym.sim.units import PAGES_PER_MIB

MODES = ("ansi", "rgb_array")
FPS = 4
"""Frames per second of a film: one per tick of the default length, in real time."""

WIDTH = 64
"""Letters of a full bar."""
BESIDE_BAR = 21
"""Letters of a line beside its bar."""
_LETTERS = "afLUksrom"
"""One letter per class, in the order of `names.CLASSES`."""


def check_mode(mode: str | None) -> str | None:
    """`mode` itself if it can be rendered; raises `UserError`."""
    if mode == "human":
        missing = "" if find_spec("pygame") else "; it needs pygame, which is not installed: pip install pygame"
        raise UserError(
            "render_mode 'human': a window is what gymnasium.make(..., render_mode='human') makes of rgb_array"
            + missing
        )
    if mode is not None and mode not in MODES:
        raise UserError(suggest(str(mode), MODES, "render_mode"))
    return mode


class Renderer:
    """Frames of N machines in a render mode; pictures show a history, for which every step is to be added."""

    def __init__(self, mode: str | None, machines: int) -> None:
        self.mode = check_mode(mode)
        self.steps = 0
        self._history = History(machines) if mode == "rgb_array" else None

    def add(self, records: NDArray[np.void]) -> None:
        """A step was made, or episodes began: records (N,)."""
        self.steps += 1
        if self._history is not None:
            self._history.add(records)

    def frame(self, records: NDArray[np.void], machine: int, name: str) -> Any:
        """One machine's frame: text, or uint8 (frames.HEIGHT, frames.WIDTH, 3); None without a mode."""
        if self._history is not None:
            return frames.draw(records[machine], self._history, machine, name)
        return None if self.mode is None else ansi(records[machine])

    def every(self, records: NDArray[np.void], names: Sequence[str]) -> Sequence[Any]:
        """One frame per machine; pictures are drawn when they are looked at."""
        if self._history is not None:
            return Pictures(self, records, names)
        return tuple(self.frame(records, machine, name) for machine, name in enumerate(names))


class Pictures(Sequence[NDArray[np.uint8]]):
    """One picture per machine, each drawn when it is looked at: to film the first of 1024 machines costs one picture.

    They are of the present state: `RuntimeError` where the machines have gone on since.
    """

    def __init__(self, renderer: Renderer, records: NDArray[np.void], names: Sequence[str]) -> None:
        self._renderer, self._records, self._names = renderer, records, names
        self._steps = renderer.steps

    def __len__(self) -> int:
        """Machines."""
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.uint8]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """A picture, or several."""
        if isinstance(index, slice):
            return [self[machine] for machine in range(len(self))[index]]
        if self._renderer.steps != self._steps:
            raise RuntimeError("pictures of a batch are drawn when they are looked at: look before the next step")
        machine = range(len(self))[index]
        picture: NDArray[np.uint8] = self._renderer.frame(self._records, machine, self._names[machine])
        return picture


def ansi(record: np.void, width: int = WIDTH) -> str:
    """The machine as text: a bar of classes per tier, `width` wide, a line per zone, the lost time by cause."""
    lines = [f"tick {record['tick']} of {record['ticks']}   throughput {record['throughput']:.3f}"]
    used, managed = per_tier(record["used_pages"]), per_tier(record["managed_pages"])
    for tier in range(n.N_TIERS):
        if managed[tier] == 0:
            continue
        lengths = np.floor(used[:, tier] * (width / managed[tier])).astype(int)
        bar = "".join(letter * length for letter, length in zip(_LETTERS, lengths, strict=True))
        lines.append(f"{n.TIERS[tier]:<5}{managed[tier] // PAGES_PER_MIB:>9} MiB [{bar:.<{width}}]")
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
