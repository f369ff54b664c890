"""What the Makefile's targets do."""

import re

from tests.places import ROOT


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, without the folder of its environment."""
    match = re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())
    assert match is not None, target
    return [line.strip().removeprefix("$(BIN)/") for line in match[1].splitlines()]
