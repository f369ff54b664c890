"""The documentation site as `make docs` makes it: no warning, no dead link, no lost page, nothing from elsewhere."""

import os
import posixpath
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.makefile import recipe
from tests.places import ROOT

pytest.importorskip("sphinx")
pytestmark = pytest.mark.xdist_group("site")

LOADED = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src", "object": "data"}
"""What a browser fetches by itself. Where a reader clicks may lead elsewhere."""
START = "docs/index.html"


class Page(HTMLParser):
    """Links, anchors and loaded files of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found:
            self.loaded.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning fails it, and so does asking the network."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = recipe("docs")
    words = [sys.executable, *shlex.split(command.replace("$(SITE)", str(folder)))[1:]]
    nobody = "http://127.0.0.1:9"
    environment = os.environ | {"http_proxy": nobody, "https_proxy": nobody, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Every page by its path in the site."""
    return {path.relative_to(site).as_posix(): Page(path.read_text()) for path in site.rglob("*.html")}


def target(page: str, link: str) -> str:
    """The file of the site that a relative link of a page leads to."""
    path = unquote(urlsplit(link).path)
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def test_every_page_of_the_checkout_is_there(pages: dict[str, Page]) -> None:
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    expected = {path.relative_to(ROOT).with_suffix(".html").as_posix() for path in sources}
    assert START in expected and expected <= set(pages)


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    dead = []
    for name, page in pages.items():
        for link in page.links:
            if is_elsewhere(link):
                continue
            to, anchor = target(name, link), unquote(urlsplit(link).fragment)
            if not (site / to).is_file() or (anchor and to in pages and anchor not in pages[to].anchors):
                dead.append((name, link))
    assert dead == []


def test_every_page_is_found_from_the_first(pages: dict[str, Page]) -> None:
    seen, left = set(), [START]
    while left:
        name = left.pop()
        if name in pages and name not in seen:
            seen.add(name)
            left += [target(name, link) for link in pages[name].links if not is_elsewhere(link)]
    assert set(pages) - seen == {"index.html", "search.html"}  # which leads to the first; which the search field opens


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    loaded = {link for page in pages.values() for link in page.loaded}
    for path in site.rglob("*.css"):
        text = re.sub(r"(?s)/\*.*?\*/", "", path.read_text())
        loaded |= {url for pair in re.findall(r"url\(['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text) for url in pair}
    assert len(loaded) > 10
    assert {link for link in loaded if is_elsewhere(link) and not link.startswith("data:")} == set()


def test_the_check_sees_what_it_looks_for() -> None:
    page = Page('<a href="x.html#y">x</a><h1 id="z"></h1><script src="https://cdn.example/x.js"></script>')
    assert (page.links, page.anchors, page.loaded) == (["x.html#y"], {"z"}, ["https://cdn.example/x.js"])
    assert is_elsewhere("//cdn.example/x.js") and not is_elsewhere("_static/x.js")
    assert target("docs/a/b.html", "../c.html?x#y") == "docs/c.html" and target("a.html", "#x") == "a.html"
