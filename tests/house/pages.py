"""Markdown pages as data: their headings, sections, tables and fenced blocks."""

from __future__ import annotations

import re
from pathlib import Path

_HEADING = re.compile(r"^(#{1,6}) (.+)$")
_CODE = re.compile(r"`([^`]*)`")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def plain(cell: str) -> str:
    """The text of a cell without links and backticks."""
    return _LINK.sub(r"\1", cell).replace("`", "").strip()


def coded(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return _CODE.findall(cell)


class Page:
    """One page. `text` is all of it; lines in fenced blocks are neither headings nor tables."""

    __slots__ = ("_lines", "blocks", "path", "text")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.blocks: list[tuple[str, list[str]]] = []  # (what follows the fence, its lines)
        self._lines: list[str] = []  # those outside of blocks
        block: list[str] | None = None
        for line in self.text.splitlines():
            if line.startswith("```"):
                if block is None:
                    block = []
                    self.blocks.append((line[3:].strip(), block))
                else:
                    block = None
            elif block is not None:
                block.append(line)
            else:
                self._lines.append(line)

    @property
    def prose(self) -> str:
        """All text outside of fenced blocks."""
        return "\n".join(self._lines)

    @property
    def headings(self) -> list[str]:
        return [found[2] for line in self._lines if (found := _HEADING.match(line))]

    @property
    def anchors(self) -> set[str]:
        """What `#...` of a link to this page may be: as GitHub makes it of the headings."""
        made: set[str] = set()
        for heading in self.headings:
            anchor = re.sub(r"[^\w\- ]", "", plain(heading).lower()).replace(" ", "-")
            number, name = 0, anchor
            while name in made:
                number += 1
                name = f"{anchor}-{number}"
            made.add(name)
        return made

    def section(self, heading: str) -> list[str]:
        """The lines under a heading, up to the next of its rank or a higher one."""
        found: list[str] | None = None
        rank = 0
        for line in self._lines:
            match = _HEADING.match(line)
            if match is not None and found is not None and len(match[1]) <= rank:
                break
            if found is not None:
                found.append(line)
            elif match is not None and match[2] == heading:
                found, rank = [], len(match[1])
        assert found is not None, f"{self.path.name} has no section {heading}"
        return found

    def tables(self, heading: str) -> list[list[list[str]]]:
        """The tables of a section: rows of cells, the row of their heads first."""
        found: list[list[list[str]]] = []
        before = ""
        for line in self.section(heading):
            if line.startswith("|"):
                if not before.startswith("|"):
                    found.append([])
                cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
                if set(line) - set("|-: "):
                    found[-1].append(cells)
            before = line
        return found

    def table(self, heading: str, first: str) -> list[list[str]]:
        """The rows of the table of a section whose first head is `first`, without the heads."""
        for heads, *rows in self.tables(heading):
            if plain(heads[0]) == first:
                assert rows and all(len(row) == len(heads) for row in rows), (heading, first)
                return rows
        raise AssertionError(f"{self.path.name}, {heading}: no table begins with {first}")
