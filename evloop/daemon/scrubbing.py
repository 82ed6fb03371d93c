"""Overwriting what sqlite leaves behind in the unused middle of its pages.

`PRAGMA secure_delete` overwrites a row that is deleted, and a page that is freed. But when pages
are joined because rows went, rows that stay are copied to another page, and their old copies lie
on in the gap between the cell pointers and the cells of the page where they were (measured: after
1,500 of 3,000 rows had gone, 83 pieces of text in 16 of 45 pages). When such a row is deleted later
its old copy would stay. So the gaps are overwritten here, in a file that nobody has open.

The layout is that of sqlite.org/fileformat2.html, sections 1.3 (the header of the file), 1.6
(pages of a tree: type, cells, where their content begins) and 1.8 (pages of the pointer map, which
are no pages of a tree). Bytes of a gap mean nothing to sqlite, so half of a write does no harm.
"""

from __future__ import annotations

import os

_POINTERS_AT = {2: 12, 5: 12, 10: 8, 13: 8}  # where the pointers begin in a page, by its type
_PENDING_BYTE = 0x40000000  # the page that has it is not used
_FILE_HEADER_BYTES = 100
_PAGE_BYTES_MIN = 512


def scrub(path: str, first: int, pages: int) -> int:
    """Overwrite the gaps of `pages` pages from number `first` (1 is the first of all) on. Returns
    the number of the next page, 0 at the end. OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        header = os.pread(descriptor, _FILE_HEADER_BYTES, 0)
        if len(header) < _FILE_HEADER_BYTES:
            return 0
        size = int.from_bytes(header[16:18], "big")
        size = 65_536 if size == 1 else size
        usable = size - header[20]
        if size < _PAGE_BYTES_MIN:
            return 0
        start = (first - 1) * size
        data = os.pread(descriptor, pages * size, start)
        there = len(data) // size
        for index in range(there):
            number = first + index
            at = index * size
            if _is_map(number, size, usable):
                continue
            begin, end = _gap(data, at, _FILE_HEADER_BYTES if number == 1 else 0)
            if 0 <= begin < end <= usable and data.count(0, at + begin, at + end) < end - begin:
                os.pwrite(descriptor, bytes(end - begin), start + at + begin)
        return first + there if there == pages else 0
    finally:
        os.close(descriptor)


def _is_map(number: int, size: int, usable: int) -> bool:
    """Whether a page is one of the pointer map, or the one that is never used."""
    every = usable // 5 + 1
    pending = _PENDING_BYTE // size + 1
    mapped = (number - 2) // every * every + 2
    if mapped == pending:
        mapped += 1
    return number >= 2 and number in (mapped, pending)


def _gap(data: bytes, at: int, skip: int) -> tuple[int, int]:
    """Where the gap of the page at `at` begins and ends, in the page; (0, 0): it has none. `skip`:
    bytes before the header of the page."""
    head = at + skip
    pointers = _POINTERS_AT.get(data[head])
    if pointers is None:
        return 0, 0
    cells = int.from_bytes(data[head + 3 : head + 5], "big")
    content = int.from_bytes(data[head + 5 : head + 7], "big") or 65_536
    return skip + pointers + 2 * cells, content
