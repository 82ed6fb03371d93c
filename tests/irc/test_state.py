"""The door without sockets: registration, members, channels and messages."""

from __future__ import annotations

import pytest

from evloop.irc.seat import EVENTS
from evloop.room.events import ME, TABLE, Road
from tests.irc.world import Away, User, World

ANN = b"\xaa" * 8
MEL = b"\xbb\xbb\xbb\xbb\xbb\xbb\x3f\x2a"


@pytest.fixture
def world() -> World:
    return World()


def codes(lines: list[str]) -> list[str]:
    return [line.split(" ")[1] for line in lines]


# -- registration ----------------------------------------------------------------------------------


def test_a_client_is_welcomed(world: World) -> None:
    one = world.connect()
    lines = one.ask("NICK Ann", "USER ann 0 * :Ann Miller")
    assert codes(lines)[:5] == ["001", "002", "003", "004", "005"]
    assert codes(lines)[-3:] == ["372", "372", "376"]
    assert lines[0] == ":evloop.internal 001 Ann :Welcome to evloop, Ann"


def test_capabilities_hold_the_welcome_back(world: World) -> None:
    one = world.connect()
    assert codes(one.ask("CAP LS 302", "NICK Ann", "USER ann 0 * :Ann")) == ["CAP"]
    assert one.ask("CAP REQ :batch no-such")[0].endswith("NAK :batch no-such")
    assert one.ask("CAP REQ :batch server-time")[0].endswith("ACK :batch server-time")
    assert "001" in codes(one.ask("CAP END"))
    assert one.ask("CAP LIST") == [":evloop.internal CAP Ann LIST :batch cap-notify server-time"]


@pytest.mark.parametrize("nick", ["a,b", "a*", "#ann", "a!b", "a@b", "Ann~3f2a", "n" * 33, "~x"])
def test_what_is_no_nick(world: World, nick: str) -> None:
    one = world.connect()
    assert codes(one.ask(f"NICK {nick}")) == ["432"]


def test_before_registration_nothing_else_is_done(world: World) -> None:
    one = world.connect()
    assert codes(one.ask("JOIN #lab")) == ["451"]
    assert codes(one.ask("NICK", "USER a", "USER a 0 * :", "CAP what")) == [
        "431", "461", "461", "410",
    ]  # fmt: skip
    assert one.ask("PING :a b") == [":evloop.internal PONG evloop.internal :a b"]


@pytest.mark.parametrize("word", ["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "TRACE", "PUT"])
def test_a_web_page_is_turned_away(world: World, word: str) -> None:
    one = world.connect()
    lines = one.ask("", f"{word} / HTTP/1.1", "NICK Ann", "USER ann 0 * :Ann")
    assert lines == ["ERROR :Closing link: this is no web server"]
    assert one.wire.closed


def test_a_password_is_judged_whole() -> None:
    world = World(password="secret")
    for given in ("wrong", "secret2", ""):
        one = world.connect()
        lines = one.ask(f"PASS {given}" if given else "PING x", "NICK Ann", "USER a 0 * :A")
        assert codes(lines)[-2:] == ["464", ":Closing"]
        assert one.wire.closed and not world.door.persons
    two = world.connect()
    assert "001" in codes(two.ask("PASS secret", "NICK Ann", "USER a 0 * :A"))
    three = world.connect()
    assert codes(three.ask("PASS secret", "NICK ANN")) == ["433"]
    assert "001" in codes(three.ask("NICK Bob", "USER a 0 * :A"))


def test_the_33rd_client_is_turned_away(world: World) -> None:
    users = [world.connect() for _ in range(33)]
    assert [bool(user.wire.closed) for user in users] == [False] * 32 + [True]
    assert users[-1].take()[0].startswith("ERROR :Closing link: 32 clients")


# -- members ---------------------------------------------------------------------------------------


def test_two_clients_with_one_nick_are_one_member(world: World) -> None:
    one, room = world.user("Ann"), None
    room = one.join()
    room.joins(MEL, "Mel")
    room.heard(MEL, "Mel", "hello")
    one.take()
    two = world.connect()
    lines = two.ask("NICK ANN", "USER other 0 * :Other")
    assert ":ANN!ann@evloop NICK :Ann" in lines
    assert ":Ann!ann@evloop JOIN #lab" in lines
    assert ":evloop.internal 353 Ann = #lab :Ann Mel" in lines
    assert [room.name for room in world.live] == ["lab"]
    two.say("PRIVMSG #lab :from two")
    assert one.take() == [":Ann!ann@evloop PRIVMSG #lab :from two"]
    two.take()
    one.say("PART #lab :gone for lunch")
    assert two.take() == [":Ann!ann@evloop PART #lab :gone for lunch"]


def test_the_last_client_to_go_leaves_the_rooms(world: World) -> None:
    one, two = world.user("Ann"), world.user("Ann")
    room = one.join()
    one.say("QUIT :bye")
    assert not room.is_left
    world.door.gone(two.client)
    assert room.is_left and not world.door.persons and world.left_rooms == [("Ann", "lab")]


def test_without_sharing_a_nick_is_taken() -> None:
    world = World(shares=False)
    world.user("Ann")
    two = world.connect()
    assert codes(two.ask("NICK ann")) == ["433"]


# -- channels --------------------------------------------------------------------------------------


def test_entering_waits_for_who_is_here(world: World) -> None:
    one = world.user("Ann")
    assert one.ask("JOIN #Lab", "PRIVMSG #lab :right behind it") == [":Ann!ann@evloop JOIN #Lab"]
    room = world.room("Lab")
    room.joins(MEL, "Mel")
    room.heard(MEL, "Mel", "meanwhile")
    assert one.take() == [] and room.session.said == []
    world.pass_time(0.5)
    assert one.take() == [
        ":evloop.internal 353 Ann = #Lab :Ann Mel",
        ":evloop.internal 366 Ann #Lab :End of /NAMES list.",
        f":Mel!{MEL.hex()}@evloop PRIVMSG #Lab :meanwhile",
    ]
    assert room.session.said == [("right behind it", 0)]
    assert one.ask("JOIN #lab") == []


def test_a_list_of_channels_is_entered_at_the_same_time(world: World) -> None:
    one = world.user("Ann")
    world.delayed = []
    one.say("JOIN #a,#b,nonsense", "PING x")
    assert codes(one.take()) == ["403"]
    for answer in world.delayed:
        answer()
    assert [line.split(" ")[2] for line in one.take()] == ["#a", "#b"]
    world.pass_time(0.5)
    assert codes(one.take()) == ["353", "366", "353", "366", "PONG"]
    assert one.ask("JOIN 0") == [":Ann!ann@evloop PART #a", ":Ann!ann@evloop PART #b"]


def test_what_is_refused(world: World) -> None:
    one = world.user("Ann")
    world.makes = False
    assert one.ask("JOIN #lab") == [':evloop.internal 403 Ann #lab :there is no room "lab"']
    world.refuses = Away("the directory is away")
    assert codes(one.ask("JOIN #lab")) == ["437"]
    assert codes(one.ask("PART #lab", "TOPIC #lab", "MODE #lab", "KICK #lab a")) == [
        "442", "403", "403", "403",
    ]  # fmt: skip
    assert codes(one.ask("NAMES #lab", "WHO #lab", "PRIVMSG #lab :x")) == ["366", "315", "404"]


def test_who_goes_before_the_room_is_entered_is_in_none(world: World) -> None:
    one = world.user("Ann")
    world.delayed = []
    one.say("JOIN #lab")
    world.door.gone(one.client)
    world.delayed[0]()
    assert world.room().is_left and not world.door.seats()


def test_others_come_and_go(world: World) -> None:
    one = world.user("Ann", "extended-join")
    room = one.join()
    room.joins(MEL, "Mel")
    room.renames(MEL, "Mel", "Melanie")
    room.leaves(MEL, "Melanie", "silent")
    source = f"!{MEL.hex()}@evloop"
    assert one.take() == [
        f":Mel{source} JOIN #lab * :Mel",
        f":Mel{source} NICK :Melanie",
        f":Melanie{source} PART #lab :not heard any more",
    ]


def test_namesakes_have_tags(world: World) -> None:
    one = world.user("Ann")
    room = one.join()
    room.joins(ANN, "ann")
    room.joins(b"\x01" * 8, "Mel")
    room.joins(MEL, "MEL")
    room.joins(b"\x02" * 8, "a,b")
    room.joins(b"\x03" * 8, "a_b")
    room.joins(b"\x04" * 8, "")
    nicks = [line.partition("!")[0] for line in one.take()]
    assert nicks == [":ann~aaaa", ":Mel", ":MEL~3f2a", ":a_b", ":a_b~0303", f":{'04' * 8}"]


def test_taking_a_nick_renames_who_has_it(world: World) -> None:
    one = world.user("Ann")
    room = one.join()
    room.joins(MEL, "Mel")
    one.take()
    assert one.ask("NICK mel") == [
        f":Mel!{MEL.hex()}@evloop NICK :Mel~3f2a",
        ":Ann!ann@evloop NICK :mel",
    ]
    assert world.renames == [("lab", "mel")]
    assert one.ask("NICK mel") == []
    assert one.ask("NICK MEL") == [":mel!ann@evloop NICK :MEL"]


def test_a_name_in_two_rooms_is_renamed_in_one(world: World) -> None:
    one = world.user("Ann")
    lab, garden = one.join("lab"), one.join("garden")
    lab.joins(MEL, "Mel")
    garden.joins(b"\x05" * 8, "Mel")
    one.take()
    lab.renames(MEL, "Mel", "Melanie")
    source = f"!{MEL.hex()}@evloop"
    assert one.take() == [
        f":Mel{source} PART #lab :now Melanie",
        f":Melanie{source} JOIN #lab",
    ]


# -- messages --------------------------------------------------------------------------------------


def test_what_is_said(world: World) -> None:
    one = world.user("Ann")
    room = one.join()
    one.say("PRIVMSG #lab :\x02bold\x02 \x0304,12red\x0f \x04ff0000x", "NOTICE #LAB plain")
    one.say("PRIVMSG #lab :\x01ACTION waves\x01")
    assert room.session.said == [("bold red x", 0), ("plain", 0), ("waves", ME)]
    assert one.take() == []


def test_what_cannot_be_said(world: World) -> None:
    from evloop.base.errors import Refused

    one = world.user("Ann")
    room = one.join()
    lines = one.ask("PRIVMSG", "PRIVMSG #lab", "PRIVMSG #lab :", "PRIVMSG #lab :\x02")
    assert codes(lines) == ["411", "412", "412", "412"]
    assert codes(one.ask("PRIVMSG #lab :\x01VERSION\x01", "PRIVMSG #lab,#a :x")) == ["404", "404"]
    room.refuses = Refused(1, "too_fast", "1024 wait")
    refused = one.ask("PRIVMSG #lab :x")
    assert refused == [":evloop.internal 404 Ann #lab :Cannot send to channel: 1024 wait"]
    assert one.ask("NOTICE #lab :x", "NOTICE nobody :x", "NOTICE") == []


def test_an_echo_has_what_the_message_has(world: World) -> None:
    one = world.user("Ann", "echo-message", "message-tags", "server-time")
    one.join()
    assert one.ask("NOTICE #lab :hi") == [
        "@time=2026-09-21T14:13:20.500Z;msgid=0101010101010101-0 :Ann!ann@evloop NOTICE #lab :hi"
    ]


def test_hostile_text_is_made_safe(world: World) -> None:
    one = world.user("Ann")
    room = one.join()
    room.joins(MEL, "Mel")
    one.take()
    room.heard(MEL, "Mel", "\x01DCC SEND x\x01\r\nQUIT :\x1b[2J\x00")
    start = f":Mel!{MEL.hex()}@evloop PRIVMSG #lab :"
    assert one.take() == [f"{start}^ADCC SEND x^A^M", f"{start}QUIT :^[[2J^@"]
    room.heard(b"", "", "who am I", mark="plain")
    assert one.take() == [":evloop.internal NOTICE #lab :? who am I"]


def test_long_and_many_lines(world: World) -> None:
    one = world.user("Ann", "message-tags")
    room = one.join()
    room.joins(MEL, "Mel")
    one.take()
    text = "\n".join([" ".join(["wörds"] * 200), "", "short"])
    room.heard(MEL, "Mel", text, ME)
    lines = one.take()
    assert all(len(line.partition(" :")[2].encode()) <= 511 for line in lines)
    assert lines[0].startswith("@msgid=") and not lines[1].startswith("@")
    said = [line.partition("\x01ACTION ")[2].removesuffix("\x01") for line in lines]
    assert " ".join(said[:-2]) == " ".join(["wörds"] * 200) and said[-2:] == [" ", "short"]


def test_private_messages_are_for_this_door(world: World) -> None:
    ann, bob = world.user("Ann"), world.user("Bob")
    room = ann.join()
    room.joins(MEL, "Mel")
    assert codes(ann.ask("PRIVMSG Mel :x", "PRIVMSG nobody :x")) == ["531", "401"]
    ann.say("PRIVMSG bob :\x01VERSION\x01")
    assert bob.take() == [":Ann!ann@evloop PRIVMSG Bob :\x01VERSION\x01"]
    bob.say("AWAY :at lunch")
    assert ann.ask("PRIVMSG Bob :hi") == [":evloop.internal 301 Ann Bob :at lunch"]
    assert codes(ann.ask("PRIVMSG Bob :\x01DCC SEND f\x01")) == ["404"]


def test_lines_that_are_none(world: World) -> None:
    one = world.user("Ann")
    world.door.line(one.client, b"PRIVMSG #lab :\xff")
    world.door.line(one.client, b"PING " + b"x" * 506)
    world.door.line(one.client, b"@" + b"t" * 4_095 + b" PING x")
    assert codes(one.take()) == ["FAIL", "417", "417"]
    world.door.line(one.client, b"@" + b"t" * 4_094 + b" PING x")
    assert codes(one.take()) == ["PONG"]


def test_a_thousand_lines_wait_and_no_more(world: World) -> None:
    one = world.user("Ann")
    world.delayed = []
    one.say("JOIN #lab", *["PING x"] * 1_000)
    assert not one.wire.closed
    one.say("PING x")
    assert one.take()[-1] == "ERROR :Closing link: 1000 lines wait already"


def test_64_seats_and_no_more(world: World) -> None:
    one = world.user("Ann")
    one.say("JOIN " + ",".join(f"#r{at}" for at in range(40)))
    world.pass_time(1.0)
    one.say("JOIN " + ",".join(f"#s{at}" for at in range(25)))
    world.pass_time(1.0)
    assert codes(one.take()).count("405") == 1


# -- the history -----------------------------------------------------------------------------------


def past_of(user: User, room_name: str = "lab") -> list[str]:
    """What a client gets of three old messages and a live one."""
    world = user.world
    user.say(f"JOIN #{room_name}")
    room = world.room(room_name)
    room.joins(MEL, "Mel")
    wall = int(world.wall()) - 3_600
    room.heard(MEL, "Mel", "one", mark="history", wall=wall)
    room.heard(MEL, "Mel", "waves", ME, mark="history", wall=wall + 60)
    world.pass_time(0.5)
    user.take()
    room.heard(MEL, "Mel", "live")
    assert len(user.take()) == 1
    world.pass_time(1.2)
    lines = user.take()
    world.pass_time(20)
    assert user.take() == []  # once
    return lines


def test_history_for_each_kind_of_client() -> None:
    source = f":Mel!{MEL.hex()}@evloop"
    assert past_of(World().user("Ann")) == [
        f"{source} NOTICE #lab :[13:13] one",
        f"{source} NOTICE #lab :[13:13] * waves".replace("13:13] *", "13:14] *"),
    ]
    assert past_of(World().user("Ann", "server-time")) == [
        f"@time=2026-09-21T13:13:20.000Z {source} PRIVMSG #lab :[13:13] one",
        f"@time=2026-09-21T13:14:20.000Z {source} PRIVMSG #lab :\x01ACTION [13:14] waves\x01",
    ]
    tags = f"msgid={MEL.hex()}-"
    assert past_of(World().user("Ann", "server-time", "message-tags", "batch")) == [
        ":evloop.internal BATCH +1 chathistory #lab",
        f"@batch=1;time=2026-09-21T13:13:20.000Z;{tags}0 {source} PRIVMSG #lab :one",
        f"@batch=1;time=2026-09-21T13:14:20.000Z;{tags}1 {source} PRIVMSG #lab "
        ":\x01ACTION waves\x01",
        ":evloop.internal BATCH -1",
    ]
    assert past_of(World().user("Ann", "draft/chathistory", "batch")) == []


def test_chathistory_waits_until_the_history_is_complete(world: World) -> None:
    one = world.user("Ann", "draft/chathistory", "batch")
    one.say("JOIN #lab", "CHATHISTORY LATEST #lab * 10", "PING after")
    room = world.room()
    room.joins(MEL, "Mel")
    room.session.whole = False
    world.pass_time(3.0)
    assert codes(one.take()) == ["JOIN", "353", "366", "PONG"]
    room.heard(MEL, "Mel", "old", mark="history", wall=1)
    room.session.whole = True
    room.on_pump()
    assert [line.rpartition(" ")[2].lstrip(":") for line in one.take()] == ["#lab", "old", "-1"]


def test_a_far_clock_does_not_put_the_past_into_the_future(world: World) -> None:
    one = world.user("Ann", "server-time", "message-tags")
    one.say("JOIN #lab")
    room = world.room()
    room.joins(MEL, "Mel")
    room.heard(MEL, "Mel", "old", mark="history", wall=4_000_000_000)
    world.pass_time(3.0)
    assert one.take()[-1].startswith("@time=2026-09-21T14:13:19.999Z;")


def test_every_event_of_a_room_has_its_words() -> None:
    assert set(EVENTS) >= set(TABLE)


def test_the_road_of_a_room_is_told(world: World) -> None:
    one = world.user("Ann")
    room = one.join()
    room.joins(MEL, "Mel")
    one.take()
    room.happen(Road("road", "full", (MEL,), ""), Road("road", "off", (), "lost"))
    (line,) = one.take()
    assert line.startswith(":evloop.internal NOTICE #lab :-- Mel does not reach you by multicast")


def test_coming_back_after_an_hour(world: World) -> None:
    """What was missed comes once, with its times."""
    one = world.user("Ann", "server-time", "message-tags")
    room = one.join()
    room.joins(MEL, "Mel")
    world.door.gone(one.client)
    world.pass_time(3_600)
    again = world.user("Ann", "server-time", "message-tags")
    again.say("JOIN #lab")
    room = world.room()
    room.joins(MEL, "Mel")
    wall = int(world.wall())
    for minutes in (50, 20, 1):
        room.heard(MEL, "Mel", f"{minutes} ago", mark="history", wall=wall - 60 * minutes)
    world.pass_time(3.0)
    told = [line for line in again.take() if "PRIVMSG" in line]
    assert [line.rpartition(":")[2] for line in told] == ["50 ago", "20 ago", "1 ago"]
    assert [line[6:26] for line in told] == [
        "2026-09-21T14:23:20.",
        "2026-09-21T14:53:20.",
        "2026-09-21T15:12:20.",
    ]
    world.pass_time(60.0)
    assert again.take() == []
