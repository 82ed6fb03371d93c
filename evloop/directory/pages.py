"""A sorted listing of encoded entries, read in pages.

Keys are text, sorted by code points; an entry is bytes, encoded by its owner. The entries are kept
in blocks of about BLOCK_ROOMS; a block joins its entries when a page first needs all of it, and
keeps the joined bytes until one of its entries changes. So a page costs the joining of the two
blocks that it cuts, and a change costs the joining of one block. The number of entries matters
only to a bisection.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from evloop.directory.limits import BLOCK_ROOMS


class _Block:
    __slots__ = ("entries", "joined", "keys", "size")

    def __init__(self, keys: list[str], entries: list[bytes]) -> None:
        self.keys = keys
        self.entries = entries
        self.size = _size(entries)
        self.joined: bytes | None = None


def _size(entries: list[bytes]) -> int:
    """Bytes that the entries take in a page, each with the comma behind it."""
    return sum(map(len, entries)) + len(entries)


class PagedIndex:
    """Sorted keys, each with its encoded entry. No block is ever empty."""

    __slots__ = ("_lasts", "_width", "blocks")

    def __init__(self, entries: list[tuple[str, bytes]], width: int = BLOCK_ROOMS) -> None:
        """Start with `entries`, in any order, no key twice; `width` entries to a block."""
        entries = sorted(entries)
        pieces = [entries[at : at + width] for at in range(0, len(entries), width)]
        self._width = width
        self.blocks = [
            _Block([key for key, _ in piece], [entry for _, entry in piece]) for piece in pieces
        ]
        self._lasts = [block.keys[-1] for block in self.blocks]  # for bisection

    def insert(self, key: str, entry: bytes) -> None:
        """Add a key that is not there."""
        if not self.blocks:
            self.blocks.append(_Block([key], [entry]))
            self._lasts.append(key)
            return
        index = min(bisect_left(self._lasts, key), len(self._lasts) - 1)
        block = self.blocks[index]
        at = bisect_left(block.keys, key)
        assert block.keys[at : at + 1] != [key], "a key is inserted once"
        block.keys.insert(at, key)
        block.entries.insert(at, entry)
        block.size += len(entry) + 1
        block.joined = None
        if len(block.keys) < 2 * self._width:
            self._lasts[index] = block.keys[-1]
            return
        halves = [
            _Block(block.keys[: self._width], block.entries[: self._width]),
            _Block(block.keys[self._width :], block.entries[self._width :]),
        ]
        self.blocks[index : index + 1] = halves
        self._lasts[index : index + 1] = [half.keys[-1] for half in halves]

    def _find(self, key: str) -> tuple[int, int]:
        index = bisect_left(self._lasts, key)
        at = bisect_left(self.blocks[index].keys, key)
        assert self.blocks[index].keys[at] == key, "the key is there"
        return index, at

    def replace(self, key: str, entry: bytes) -> None:
        """Change the entry of a key that is there."""
        index, at = self._find(key)
        block = self.blocks[index]
        block.size += len(entry) - len(block.entries[at])
        block.entries[at] = entry
        block.joined = None

    def remove(self, key: str) -> None:
        """Remove a key that is there."""
        index, at = self._find(key)
        block = self.blocks[index]
        del block.keys[at]
        block.size -= len(block.entries.pop(at)) + 1
        block.joined = None
        if block.keys:
            self._lasts[index] = block.keys[-1]
        else:
            del self.blocks[index], self._lasts[index]

    def page(self, after: str | None, count: int, size: int) -> tuple[bytes, str | None]:
        """Return up to `count` entries behind the key `after` (None: from the start), joined by
        commas in at most `size` bytes, and the last key among them, or None when no more follow.
        """
        start = at = 0
        if after is not None:
            start = bisect_right(self._lasts, after)
            if start < len(self.blocks):
                at = bisect_right(self.blocks[start].keys, after)
        pieces: list[bytes] = []
        last = None
        for index in range(start, len(self.blocks)):
            block = self.blocks[index]
            if not at and len(block.keys) <= count and block.size <= size:
                if block.joined is None:
                    block.joined = b",".join(block.entries)
                pieces.append(block.joined)
                taken = len(block.keys)
                size -= block.size
            else:
                entries = _that_fit(block.entries[at : at + count], size)
                taken = len(entries)
                size -= _size(entries)
                pieces += entries
            if taken:
                last = block.keys[at + taken - 1]
            if at + taken < len(block.keys):
                return b",".join(pieces), last
            count -= taken
            at = 0
        return b",".join(pieces), None


def _that_fit(entries: list[bytes], size: int) -> list[bytes]:
    """The first of `entries` that take at most `size` bytes, commas included."""
    left = size - _size(entries)
    number = len(entries)
    while left < 0:
        number -= 1
        left += len(entries[number]) + 1
    return entries[:number]
