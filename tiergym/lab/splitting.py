"""Families on which nothing is to be decided leave what is measured of their suite, for the suite `validation`.

What a policy does there is still measured: that it does no harm. `tiergym ladder SUITE... --split` does it, from the
rungs that it has climbed; nobody moves a family by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tiergym import files
from tiergym.errors import UserError
from tiergym.lab.freezing import ASIDE, HEAD, table_text
from tiergym.lab.rungs import Rung
from tiergym.specs import Suite


def split(suites: Sequence[Suite], rungs: Mapping[str, Rung], folder: Path) -> None:
    """Rewrite the suites' files NAME.toml in `folder`: a family that decides (`Rung.decides`) is in its `[families]`,
    any other one in its `[undecided]`. Raises `UserError` for a suite that was not drawn."""
    for suite in suites:
        if suite.draw is None:
            raise UserError(f"suite '{suite.name}' is not drawn; allowed: suites with a [draw]")
        decides = {name: digest for name, digest in sorted(suite.drawn.items()) if rungs[name].decides}
        aside = {name: digest for name, digest in sorted(suite.drawn.items()) if not rungs[name].decides}
        path = folder / f"{suite.name}.toml"
        before, _, _ = path.read_text(encoding="utf-8").partition(HEAD)
        files.write_text(path, before.rstrip("\n") + f"\n\n{table_text(HEAD, decides)}\n{table_text(ASIDE, aside)}")
