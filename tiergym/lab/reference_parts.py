"""What the pages of docs/reference are put together from: a title, a note on who made it, tables, links to sources."""

from collections.abc import Iterable, Sequence

from tiergym.lab.citations import linked

_NOTE = "<!-- Made by `python -m tiergym.lab.reference docs/reference`; edit the tables in the code instead. -->"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; bars inside cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def page(title: str, *parts: str, sources: str = "../sources.md") -> str:
    """A page of parts that each end in a line's end; `sources` is the way from it to docs/sources.md."""
    return linked("\n".join([f"# {title}\n", f"{_NOTE}\n", *parts]), sources)
