"""What a page, a man page or a source refers to is in the repository.

Whoever reads a comment that cites a page must be able to open that page: notes of the people who
wrote the code do not count.
"""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
from pathlib import Path

import pytest

from tests.house.pages import Page
from tests.support.sources import ROOT, name_of

SKIPPED = {"__pycache__", "build", "dist", "htmlcov"}
TOP = ("bench", "contrib", "docs", "evloop", "man", "tests")

# The name of a page, perhaps with a path before it, but no part of a URL.
_PAGE_NAME = re.compile(r"(?<![\w/.:-])((?:[\w.-]+/)*[\w-]+\.md)\b")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_IN_TEXT_BLOCK = re.compile(r"```.*?```", re.DOTALL)
# A file of the repository, named by its path from the top; evloop/0.1 is a release.
_FILE_NAME = re.compile(rf"(?<![\w/.:-])((?:{'|'.join(TOP)})/(?!\d)[\w./-]*\w)")
# Where the plans of the authors lie, which nobody else has.
_FOREIGN = re.compile("/" + "work/|shared/" + "design")


def _files(*suffixes: str) -> list[Path]:
    """The files of the repository with these suffixes."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in SKIPPED and not name.startswith((".venv", ".git"))
        ]
        found += [Path(folder) / name for name in names if name.endswith(suffixes)]
    return sorted(found)


PAGES = _files(".md")
MANUALS = sorted((ROOT / "man").iterdir())
SOURCES = _files(".py")
OTHERS = [ROOT / "Makefile", ROOT / "check", *_files(".service", ".socket", ".toml")]


def missing_pages(text: str, folder: Path) -> list[str]:
    """The pages that `text`, in a file of `folder`, cites and that do not exist.

    A bare name is that of a page beside the file, at the top, or in docs.
    """
    places = (folder, ROOT, ROOT / "docs")
    cited = _PAGE_NAME.findall(text)
    return [name for name in cited if not any((place / name).is_file() for place in places)]


def prose_of(source: str, *, strings: bool) -> str:
    """Comments and docstrings of Python; with `strings` all other strings too."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found.append(token.string)
    for node in ast.walk(ast.parse(source)):
        if strings and isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
        elif not strings and isinstance(
            node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ):
            found.append(ast.get_docstring(node) or "")
    return "\n".join(found)


def faults(texts: dict[Path, str]) -> dict[str, list[str]]:
    """By file: the pages that it cites and that do not exist, the plans that it cites."""
    found = {}
    for path, text in texts.items():
        bad = missing_pages(text, path.parent) + _FOREIGN.findall(text)
        if bad:
            found[name_of(path)] = bad
    return found


def test_pages_cite_pages_that_exist() -> None:
    assert faults({path: path.read_text(encoding="utf-8") for path in PAGES}) == {}


def test_manuals_cite_pages_that_exist() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in MANUALS}
    roff = re.compile(r"\\f[A-Z]|\\&")
    plain = {path: roff.sub("", text).replace("\\-", "-") for path, text in texts.items()}
    assert faults(plain) == {}


def test_sources_cite_pages_that_exist() -> None:
    texts = {}
    for path in SOURCES:
        source = path.read_text(encoding="utf-8")
        # Only who seems to cite what is not there is read as Python, which takes long.
        if missing_pages(source, path.parent) or _FOREIGN.search(source):
            # Strings of the tests may speak of files that they make.
            texts[path] = prose_of(source, strings=path.is_relative_to(ROOT / "evloop"))
    assert faults(texts) == {}


def test_other_files_cite_pages_that_exist() -> None:
    assert faults({path: path.read_text(encoding="utf-8") for path in OTHERS}) == {}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_links_of_a_page_lead_somewhere(path: Path) -> None:
    text = _IN_TEXT_BLOCK.sub("", path.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), target
        if anchor:
            assert anchor in Page(page).anchors, target


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_files_that_a_page_names_exist(path: Path) -> None:
    if path.name == "CHANGELOG.md":
        return  # what is told there was true when it was written
    named = _FILE_NAME.findall(path.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_there_is_enough_to_look_at() -> None:
    """A search that finds no file would find no fault."""
    assert len(PAGES) > 5 and len(MANUALS) > 2 and len(SOURCES) > 150 and len(OTHERS) > 4
    cited = [name for path in PAGES for name in _PAGE_NAME.findall(path.read_text())]
    assert len(cited) > 5


def test_what_does_not_exist_is_found() -> None:
    text = "See nowhere.md, docs/reliability.md, (reliability.md) and https://example.org/a.md."
    assert missing_pages(text, ROOT) == ["nowhere.md"]
    source = '"""In gone.md."""\n# in lost.md\nX = "in made.md"\n'
    assert missing_pages(prose_of(source, strings=False), ROOT) == ["lost.md", "gone.md"]
    assert missing_pages(prose_of(source, strings=True), ROOT) == ["lost.md", "gone.md", "made.md"]
