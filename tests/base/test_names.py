"""Names, addresses and ports: what is taken, in which form, and what is made safe to show."""

from __future__ import annotations

import ipaddress
import sys
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evloop.base.errors import INVALID_PARAMS, Refused
from evloop.base.limits import (
    NICKNAME_BYTES_MAX,
    PORT_MAX,
    PORT_MIN,
    ROOM_NAME_BYTES_MAX,
)
from evloop.base.names import (
    address_warning,
    asked_room_name,
    check_address,
    check_member_name,
    check_nickname,
    check_port,
    check_room_name,
    display,
    fold,
    fold_text,
    ignorable,
    place_of,
    quoted,
    split_place,
)

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=90)
INVISIBLE = "".join(filter(ignorable, map(chr, range(sys.maxunicode + 1))))
BLANKS = "\u115f\u1160\u2800\u3164\uffa0\U0001d159"
LETTERS = st.characters(categories=("L", "N", "P", "S", "M"))
SEEN = st.characters(
    categories=("L", "N", "P", "S", "M"),
    max_codepoint=0xDFFFF,  # behind it tags and variation selectors, too many to list
    exclude_characters=BLANKS + "".join(c for c in INVISIBLE if c < "\U000e0000"),
)
GOOD_NAMES = st.text(SEEN, min_size=1, max_size=16)
CONTROLS = [
    "\n", "\t", "\x00", "\x1b", "\x7f", "\x85", "\x9b",  # C0, DEL, C1
    " ", "\xa0", "\u2003", "\u3000", "\u2028", "\u2029",  # white space and separators
    "\u200b", "\u200e", "\u200f", "\u061c", "\u202e", "\u2066", "\ufeff", "\xad",  # format, bidi
    "\ud800", "\ue000", "\U0010ffff",  # surrogate, private use, unassigned
]  # fmt: skip


def refused(reason: str, check: object, value: object) -> str:
    assert callable(check)
    with pytest.raises(Refused) as caught:
        check(value)
    assert (caught.value.code, caught.value.reason) == (INVALID_PARAMS, reason)
    assert display(caught.value.sentence) == caught.value.sentence
    assert len(caught.value.sentence) < 300
    return caught.value.sentence


# -- room names and nicknames ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["lab", "a", "a/b-", "Küche", "实验室", "מעבדה", "مختبر", "😀", "x" * 64, "é" * 32, "~!?:"],
)
def test_good_room_names_stay_as_they_are(name: str) -> None:
    assert check_room_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/lab", "-lab", "-", "x" * 65, "é" * 33, "bad name", "x" * 9999]
)
def test_bad_room_names(name: str) -> None:
    refused("bad_name", check_room_name, name)


@pytest.mark.parametrize("control", CONTROLS, ids=[f"U+{ord(c):04X}" for c in CONTROLS])
def test_no_control_format_or_white_space_in_names(control: str) -> None:
    for name in (control, f"a{control}b", f"{control}a", f"a{control}"):
        refused("bad_name", check_room_name, name)
        refused("bad_name", check_nickname, name)


def test_names_are_normalised_before_they_are_measured() -> None:
    assert check_room_name("e\u0301" * 32) == "é" * 32  # 96 bytes before NFC, 64 after
    assert check_nickname("e\u0301" * 16) == "é" * 16
    refused("bad_name", check_room_name, "\u0958" * 11)  # 33 bytes before NFC, 66 after


def test_a_name_that_is_far_too_long_is_not_normalised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evloop.base.names.normalize", lambda form, text: pytest.fail("normalised"))
    refused("bad_name", check_room_name, "ﷺ" * (4 * ROOM_NAME_BYTES_MAX + 1))


@pytest.mark.parametrize("name", ["Mel", "guest-a1b2", "-", "/me", "x" * 32, "Ünal", "😀"])
def test_good_nicknames(name: str) -> None:
    assert check_nickname(name) == name


@pytest.mark.parametrize("name", ["", "a:b", ":", "x" * 33, "é" * 17, "two words"])
def test_bad_nicknames(name: str) -> None:
    refused("bad_name", check_nickname, name)


@given(ANY_TEXT)
def test_any_text_is_a_good_name_in_its_final_form_or_refused(text: str) -> None:
    for check, most in (
        (check_room_name, ROOM_NAME_BYTES_MAX),
        (check_nickname, NICKNAME_BYTES_MAX),
    ):
        try:
            name = check(text)
        except Refused as no:
            assert (no.code, no.reason) == (INVALID_PARAMS, "bad_name")
            assert display(no.sentence) == no.sentence
            continue
        assert name == unicodedata.normalize("NFC", text)
        assert check(name) == name
        assert 1 <= len(name.encode()) <= most
        assert display(name) == name
        assert not any(unicodedata.category(c)[0] in "CZ" for c in name)
        assert not any(
            unicodedata.bidirectional(c) in ("LRO", "RLO", "LRE", "RLE", "PDF") for c in name
        )


# -- folding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LAB", "lab"),
        ("Straße", "STRASSE"),
        ("ﬁle", "FILE"),
        ("ｌａｂ", "lab"),
        ("e\u0301", "É"),
        ("Σ", "ς"),
        ("①", "1"),
        ("\u212b", "å"),
    ],
)
def test_names_that_are_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), [("lab", "lab2"), ("e", "é"), ("а", "a"), ("O", "0")])
def test_names_that_differ(one: str, other: str) -> None:
    assert fold(one) != fold(other)


def visible(text: str) -> str:
    return "".join(char for char in text if not ignorable(char))


@given(st.text(st.characters() | st.sampled_from(INVISIBLE), max_size=40))
def test_fold_is_the_documented_formula(name: str) -> None:
    folded = unicodedata.normalize("NFKC", visible(name)).casefold()
    assert fold(name) == unicodedata.normalize("NFKC", visible(folded))
    assert fold(unicodedata.normalize("NFC", name)) == folded
    assert fold(unicodedata.normalize("NFD", name)) == folded


# -- what cannot be seen, and what looks like evloop's own -----------------------------------------

SELECTORS = ["\ufe0f", "\u034f", "\U000e0100", "\u180b", "\u17b4", "\u200d", "\u2060", "\ufeff"]


@pytest.mark.parametrize("mark", SELECTORS, ids=[f"U+{ord(c):04X}" for c in SELECTORS])
def test_an_invisible_character_makes_no_other_name(mark: str) -> None:
    assert ignorable(mark)
    for name in (f"lab{mark}", f"l{mark}ab", f"{mark}LAB{mark}{mark}"):
        assert fold(name) == "lab"


def test_what_is_ignorable_is_what_unicode_says_as_far_as_this_python_knows_it() -> None:
    """All of its format characters but the visible ones, its variation selectors and fillers."""
    seen = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"
    seen += "\ufff9\ufffa\ufffb\U000110bd\U000110cd"
    for char in map(chr, range(sys.maxunicode + 1)):
        name = unicodedata.name(char, "")
        if unicodedata.category(char) == "Cf" and "EGYPTIAN HIEROGLYPH" not in name:
            assert ignorable(char) == (char not in seen), f"{ord(char):04X}"
        elif "VARIATION SELECTOR" in name or ("HANGUL" in name and "FILLER" in name):
            assert ignorable(char), name
        elif ignorable(char):
            assert name in ("", "COMBINING GRAPHEME JOINER") or "KHMER VOWEL" in name, name


@pytest.mark.parametrize("name", ["\ufe0f", "\u034f\U000e0100", *BLANKS, "a\u3164", "\u2800b"])
def test_what_has_no_ink_is_no_name(name: str) -> None:
    refused("bad_name", check_room_name, name)
    refused("bad_name", check_nickname, name)
    refused("bad_name", check_member_name, name)


@pytest.mark.parametrize(
    "name",
    ["Mel~3f2a", "Mel~3F2A", "~abcd", "Mel\uff5e3f2a", "Mel~\uff13f2a", "Mel\u223c3f2a9",
     "Mel\u02dc3f2a", "Mel~\ufe0f3f\u034f2a", "x~" + "a" * 16, "0123456789abcdef",
     "0123456789ABCDE\uff26"],
)  # fmt: skip
def test_nobody_is_called_what_evloop_writes_to_tell_people_apart(name: str) -> None:
    refused("bad_name", check_nickname, name)
    refused("bad_name", check_member_name, name)


@pytest.mark.parametrize("name", ["Mel~3f2", "Mel~3f2g", "a~b", "cafebabe", "0123456789abcde", "~"])
def test_names_that_only_nearly_read_like_a_tag(name: str) -> None:
    assert check_nickname(name) == name


def test_a_name_of_two_words_is_told_which_would_be_one() -> None:
    assert "; bad-name would be one" in refused("bad_name", check_room_name, " bad \u3000 name")
    assert "would" not in refused("bad_name", check_nickname, " ")


UNASSIGNED = next(
    c for c in map(chr, range(0x1FB00, 0x1FFFE)) if unicodedata.category(c) == "Cn"
)  # as an emoji of next year is to this Python


def test_a_character_of_a_newer_unicode() -> None:
    refused("bad_name", check_room_name, UNASSIGNED)
    refused("bad_name", check_nickname, UNASSIGNED)
    assert check_member_name(f"Mel{UNASSIGNED}") == f"Mel{UNASSIGNED}"
    assert asked_room_name(f"lab{UNASSIGNED}") == f"lab{UNASSIGNED}"
    for never in ("\ufdd0", "\uffff", "\U0010fffe", "\ue000", "\u2065", "\x9b"):
        refused("bad_name", check_member_name, f"Mel{never}")


@pytest.mark.parametrize("name", ["/old", "two words", "\u3164", "239.255.7.1:5751", "e\u0301"])
def test_a_directory_may_be_asked_for_any_name(name: str) -> None:
    assert asked_room_name(name) == unicodedata.normalize("NFC", name)
    refused("bad_name", asked_room_name, "")
    refused("bad_name", asked_room_name, "x" * (4 * ROOM_NAME_BYTES_MAX + 1))


@given(ANY_TEXT)
def test_a_short_text_folds_as_its_formula_says(text: str) -> None:
    short = text[:64]
    nfc = unicodedata.normalize("NFC", visible(short)).casefold()
    assert fold_text(short) == unicodedata.normalize("NFC", nfc)


def test_a_long_text_is_folded_in_pieces_that_end_at_blanks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces = []

    def record(form: str, text: str) -> str:
        pieces.append(text)
        return text

    monkeypatch.setattr("evloop.base.names.normalize", record)
    assert fold_text("Ä" * 200) == "ä" * 200
    assert fold_text("Zoë " * 300) == "zoë " * 300
    assert max(map(len, pieces)) <= 64
    assert all(piece.endswith(" ") for piece in pieces if "z" in piece.casefold())


@given(GOOD_NAMES)
def test_fold_is_idempotent(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_a_box_without_unicodedata_takes_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unicodedata", None)
    assert check_room_name("e\u0301") == "e\u0301"
    assert fold("E\u0301LAB") == "e\u0301lab"
    assert fold("LAB") == "lab"


# -- showing remote text ---------------------------------------------------------------------------


@given(ANY_TEXT)
def test_display_is_idempotent_and_leaves_nothing_dangerous(text: str) -> None:
    shown = display(text)
    assert display(shown) == shown
    for character in shown:
        assert character >= " " and not "\x7f" <= character <= "\x9f"
        assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029"
        assert not 0xD800 <= ord(character) < 0xE000
    shown.encode()  # can be written


@given(st.text(LETTERS | st.just(" "), max_size=90))
def test_display_leaves_honest_text_alone(text: str) -> None:
    assert display(text) == text


def test_display_shows_controls_so_that_they_are_seen() -> None:
    assert display("a\x1b[31mb\x07\x7f\r\n") == "a^[[31mb^G^?^M^J"
    assert display("a\u202eb\x9bc\ud800") == "a\ufffdb\ufffdc\ufffd"
    assert display("👩\u200d🔬 \u200fשלום") == "👩\u200d🔬 \u200fשלום"


@given(ANY_TEXT, st.integers(min_value=1, max_value=80))
def test_quoted_is_safe_and_short(text: str, most: int) -> None:
    shown = quoted(text, most)
    assert len(shown) <= most
    assert display(shown) == shown
    if len(display(text)) <= most:
        assert shown == display(text)


# -- addresses and ports ---------------------------------------------------------------------------


@given(st.integers(min_value=0, max_value=2**24 - 1))
def test_every_address_of_239_is_taken_as_it_is(low: int) -> None:
    address = str(ipaddress.IPv4Address((239 << 24) + low))
    assert check_address(address) == address


@given(st.integers(min_value=0, max_value=2**32 - 1))
def test_no_other_ipv4_address_is_taken(number: int) -> None:
    assume(number >> 24 != 239)
    refused("bad_address", check_address, str(ipaddress.IPv4Address(number)))


@given(st.sampled_from([0xFF12, 0xFF15, 0xFF18]), st.integers(min_value=0, max_value=2**112 - 1))
def test_transient_ipv6_groups_become_canonical(head: int, tail: int) -> None:
    group = ipaddress.IPv6Address((head << 112) + tail)
    for written in (group.exploded, group.exploded.upper(), group.compressed):
        assert check_address(written) == group.compressed
    assert check_address(check_address(group.exploded)) == group.compressed


@pytest.mark.parametrize(
    "address",
    [
        "", "239", "239.1.2", "239.1.2.3.4", "239.1.2.256", "239.01.2.3", "239.1.2.3 ", "localhost",
        " 239.1.2.3", "239.1.2.-3", "239.1.2.3\n", "239.1.2.+3", "239.1.2.٣", "239.1..3",
        "0xef.1.2.3", "224.0.0.1", "10.0.0.1", "240.1.2.3", "::", "::1", "ff02::1", "ff05::1",
        "ff1e::1", "ff0e::1", "ff32::1", "ff15::1%eth0", "ff15::1%1", "[ff15::1]", "ff15:::1",
        "ff15::g", "::ffff:239.1.2.3", ":", "%", "x" * 5000, ":" * 5000, "239.1.2.\ud800",
    ],
)  # fmt: skip
def test_bad_addresses(address: str) -> None:
    refused("bad_address", check_address, address)


@given(ANY_TEXT)
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = check_address(text)
    except Refused as no:
        assert (no.code, no.reason) == (INVALID_PARAMS, "bad_address")
        return
    assert ipaddress.ip_address(address).is_multicast
    assert check_address(address) == address


@pytest.mark.parametrize("address", ["239.0.0.1", "239.128.0.255", "239.255.255.250"])
def test_a_word_of_warning(address: str) -> None:
    warning = address_warning(check_address(address))
    assert warning is not None
    assert address in warning


@pytest.mark.parametrize("address", ["239.0.1.1", "239.128.1.0", "239.255.254.255", "ff15::7"])
def test_no_warning_without_need(address: str) -> None:
    assert address_warning(check_address(address)) is None


@given(st.integers())
def test_ports(port: int) -> None:
    if PORT_MIN <= port <= PORT_MAX:
        assert check_port(port) == port
    else:
        refused("bad_port", check_port, port)


@pytest.mark.parametrize("port", [1024, 65535])
def test_the_ports_at_the_ends_are_taken(port: int) -> None:
    assert check_port(port) == port


@given(
    st.sampled_from(["239.255.7.1", "ff15::7", "ff12:0:1::", "239.0.0.0"]),
    st.integers(min_value=PORT_MIN, max_value=PORT_MAX),
)
def test_a_place_can_be_read_back(address: str, port: int) -> None:
    assert split_place(place_of(address, port)) == (address, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", "lab", "239.255.7.1", "239.255.7.1:", ":5751", "lab:", "ff15::7:5751", "a:b:1",
     "10:30", "1:5751", "1.2.3:80", ".:1", "x:1234567", "239.255.7.1:+5", "239.255.7.1:٣٣٣٣",
     "[]:5751"],
)  # fmt: skip
def test_what_has_not_the_form_of_a_place(text: str) -> None:
    assert split_place(text) is None


def test_a_place_of_no_group_or_port_is_refused() -> None:
    refused("bad_address", split_place, "10.0.0.1:5751")
    refused("bad_address", split_place, "[::1]:5751")
    refused("bad_port", split_place, "239.255.7.1:80")
    refused("bad_port", split_place, "239.255.7.1:99999")


@given(ANY_TEXT)
def test_any_text_is_a_place_or_not_or_refused(text: str) -> None:
    try:
        place = split_place(text)
    except Refused:
        return
    if place is not None:
        assert split_place(place_of(*place)) == place


@pytest.mark.parametrize(
    ("address", "why"),
    [("10.0.0.1", "is not in 239.0.0.0/8"), ("239.255.07.1", "is no IPv4 or IPv6 address")],
)
def test_a_bad_address_is_told_what_is_wrong(address: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check_address(address)


@pytest.mark.parametrize("name", ["a:5", "lab:5751", "::5", "1:2:3", "x[1]:5"])
def test_a_name_with_a_colon_is_no_place(name: str) -> None:
    assert split_place(name) is None
    assert check_room_name(name) == name


@pytest.mark.parametrize("name", ["10:30", "1.2.3.4:80", "239.255.7.1"])
def test_a_room_may_be_called_like_a_time(name: str) -> None:
    assert check_room_name(name) == name


@pytest.mark.parametrize("name", ["239.255.7.1:5751", "[ff15::7]:5751"])
def test_no_room_is_called_like_the_address_of_another(name: str) -> None:
    assert split_place(name) is not None
    assert "is the address of a room" in refused("bad_name", check_room_name, name)
