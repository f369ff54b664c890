"""Citations of facts in docs/sources.md, such as [K-kswapd], and the links behind them in pages.

    python -m tiergym.lab.citations docs/model.md docs/sources.md

makes the links at the end of these pages anew; pages that are made by a command get theirs from it.
"""

import os
import re
from pathlib import Path
from typing import Annotated, Final

import typer

from tiergym import files
from tiergym.errors import UserError

SOURCES: Final = Path("docs") / "sources.md"
_CITATION: Final = re.compile(r"\[([KHWF]-[^\]\s]*)\]")
_LINK: Final = re.compile(r"(?m)^\[[KHWF]-[^\]\s]*\]: \S+\n")


def citations(text: str) -> set[str]:
    """The ids that a text cites."""
    return set(_CITATION.findall(_LINK.sub("", text)))


def linked(page: str, sources: str) -> str:
    """The page, ending with a link for every fact that it cites; `sources` is the way from it to docs/sources.md."""
    text = _LINK.sub("", page).rstrip("\n") + "\n"
    links = [f"[{fact}]: {sources}#{fact.lower()}\n" for fact in sorted(citations(text))]
    return "".join([text, "\n", *links]) if links else text


def way_to_sources(page: Path, root: Path) -> str:
    """docs/sources.md of the checkout `root`, seen from `page`: empty for that page itself."""
    sources = root / SOURCES
    return "" if page == sources else Path(os.path.relpath(sources, page.parent)).as_posix()


def main(pages: Annotated[list[Path], typer.Argument(metavar="PAGE.md...", help="Pages of a checkout.")]) -> None:
    """Put links to facts at the end of pages."""
    for page in pages:
        path = page.resolve()
        root = next((folder for folder in path.parents if (folder / SOURCES).is_file()), None)
        if root is None:
            raise UserError(f"{page}: in no checkout, which has {SOURCES}; allowed: a page of one")
        files.write_text(path, linked(path.read_text(encoding="utf-8"), way_to_sources(path, root)))


if __name__ == "__main__":
    from tiergym.__main__ import run_module

    run_module(main)
