"""docs/directory-protocol.md, "Announcement": its bytes and numbers are those of the code."""

from __future__ import annotations

import re
from random import Random

from evloop.directory import limits
from evloop.directory.announcement import Service, strings_of
from evloop.directory.responder import Responder
from evloop.net.mdns import parse
from tests.house.pages import Page, coded
from tests.support.mdns import ID, VECTORS
from tests.support.sources import ROOT

PAGE = Page(ROOT / "docs" / "directory-protocol.md")


def blocks() -> dict[str, bytes]:
    return {
        kind.removeprefix("mdns "): bytes.fromhex("".join(lines))
        for kind, lines in PAGE.blocks
        if kind.startswith("mdns ")
    }


def test_the_bytes_are_the_vectors() -> None:
    assert blocks() == VECTORS
    for size in {len(data) for data in VECTORS.values()}:
        assert f"({size} bytes)" in PAGE.text


def test_the_table_is_what_is_said() -> None:
    rows = PAGE.table("Announcement", "name")
    lives = {row[1]: row[3] for row in rows}
    assert lives == {
        "PTR": str(limits.ANNOUNCED_TTL_S),
        "SRV": str(limits.ANNOUNCED_HOST_TTL_S),
        "TXT": str(limits.ANNOUNCED_TTL_S),
        "A, AAAA": str(limits.ANNOUNCED_HOST_TTL_S),
    }
    said = [record.ttl for record in parse(VECTORS["announcement"]).answers]
    assert said == [int(lives[kind]) for kind in ("PTR", "SRV", "TXT", "A, AAAA")]


def test_the_strings_stand_there_in_their_order() -> None:
    item = next(text for text in PAGE.prose.split("\n- ") if text.startswith("The strings of TXT"))
    words = coded(item)
    for service in (
        Service("x", ID, "server", 1, ""),
        Service("x", ID, "guest", 1, "ab" * 16),
    ):
        at = -1
        for string in strings_of(service):
            word = re.sub(r"^(id|fp)=.*", r"\1=", string)
            assert words.index(word) > at
            at = words.index(word)


def test_the_numbers_of_the_manners() -> None:
    text = " ".join(PAGE.prose.split())
    for wanted in (
        f"of that link alone, at most {limits.ANNOUNCED_ADDRESSES_MAX}",
        f"at most {limits.ANNOUNCED_LABEL_BYTES_MAX} bytes of UTF-8",
        f"the first {limits.FINGERPRINT_DIGITS_TOLD} hexadecimal digits",
        f"{limits.OWN_PROBE_EVERY_S * 1000:.0f} ms apart, the first after 0 to"
        f" {limits.ANNOUNCE_DRAW_S * 1000:.0f} ms",
        f"after {limits.ANSWER_WAIT_S_MIN * 1000:.0f} to {limits.ANSWER_WAIT_S_MAX * 1000:.0f} ms",
        f"({limits.ANSWER_TRUNCATED_S_MIN * 1000:.0f} to"
        f" {limits.ANSWER_TRUNCATED_S_MAX * 1000:.0f} ms when",
        f"TTL {limits.UNICAST_TTL_S}, the host's name",
        f"At most {limits.UNICAST_ANSWERS_PER_S:.0f} a second",
        f"fifteen times at once, then once in {limits.RENAME_EVERY_S:.0f} s",
    ):
        assert wanted in text, wanted
    assert limits.RENAMES_AT_ONCE == 15 and limits.OWN_PROBES == 3 and limits.ANNOUNCE_TIMES == 2
    assert not Responder(Service("x", ID, "server", 1, ""), Random(1), 0).is_probing()
