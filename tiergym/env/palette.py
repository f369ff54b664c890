"""Colours of every picture: what is the same thing has the same colour everywhere.

Paul Tol's "muted" scheme, with black, white and grey added, and Okabe and Ito's colours for lines: distinguishable for
all common colour vision deficiencies.
"""

from typing import Final

from tiergym.sim import names as n

CLASS_COLOURS: Final = {
    "anon": "#88CCEE",
    "file": "#DDDDDD",
    "pt_leaf": "#332288",
    "pt_upper": "#AA4499",
    "kstack": "#44AA99",
    "slab_unreclaim": "#117733",
    "slab_reclaim": "#CC6677",
    "kernel_other": "#DDCC77",
    "memmap": "#999933",
}
"""Of each class of pages."""
CAUSE_COLOURS: Final = {
    "data_on_slow": "#88CCEE",
    "page_tables": "#332288",
    "stacks": "#44AA99",
    "slab": "#117733",
    "memmap": "#999933",
    "contention": "#DDDDDD",
    "premature_reclaim": "#CC6677",
    "other_reclaim": "#882255",
    "migration": "#DDCC77",
    "refault": "#AA4499",
    "oom": "#000000",
}
"""Of each cause of lost time; where a class causes it, that of the class."""
WMARK_COLOURS: Final = dict(zip(n.WMARKS, ("#D55E00", "#E69F00", "#009E73", "#CC79A7"), strict=True))
"""Of each watermark."""
MODE_COLOURS: Final = ("#E6E6E6", "#56B4E9", "#0B3C7D", "#E69F00")
"""Of an action entry's modes in their order: Linux's default is grey."""
BACKGROUND, INK, FAINT, KILL = "#FFFFFF", "#222222", "#777777", "#D00000"


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of `#RRGGBB`, 0 to 255.

    >>> rgb("#E69F00")
    (230, 159, 0)
    """
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def ink_on(colour: str) -> str:
    """Black or white, whichever is readable on `colour`."""
    red, green, blue = rgb(colour)
    return "#000000" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#FFFFFF"
