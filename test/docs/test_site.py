"""The documentation site builds strictly, and its links lead somewhere."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.documentation import DOCS, ROOT, generated_pages


class Links(HTMLParser):
    """The anchors of a page, the addresses it links to, and what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in values:
            self.loaded.append(values["src"])
        if tag == "link" and "href" in values and values.get("rel") != "canonical":
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """Every page of the built site."""
    pytest.importorskip("zensical", reason="needs the extra 'docs'")
    out = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, str(ROOT / "scripts" / "build_docs.py"), "--out", str(out)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" not in (built.stdout + built.stderr).lower()
    pages = {}
    for path in sorted(out.rglob("*.html")):
        pages[path] = Links()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def test_every_page_is_built_and_in_the_navigation(site: dict[Path, Links]) -> None:
    navigation = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    listed = set(re.findall(r'= "([\w/-]+\.md)"', navigation))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} | set(generated_pages())
    assert listed == pages
    assert len(site) >= len(pages)


def test_the_site_loads_nothing_from_other_hosts(site: dict[Path, Links]) -> None:
    loaded = {address for links in site.values() for address in links.loaded}
    assert len(loaded) > 5
    assert [address for address in loaded if re.match(r"(https?:)?//", address)] == []


def test_links_and_anchors_of_the_site_lead_somewhere(site: dict[Path, Links]) -> None:
    broken = []
    for path, links in site.items():
        for link in links.links:
            if path.name == "404.html" or re.match(r"[a-z]+:|//", link):
                continue
            place, _, anchor = link.partition("#")
            target = (path.parent / place).resolve() if place else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (anchor and target in site and anchor not in site[target].anchors):
                broken.append(f"{path.parent.name}: {link}")
    assert broken == []
