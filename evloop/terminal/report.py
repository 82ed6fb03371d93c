"""What happened, as a line for a person or as JSON for a script.

All sentences about events are made here. A function gets raw values (remote text too) and returns
text that is safe for a terminal; a time is passed as text, because no clock is read here. The first
prompt loads this module and no package of rooms: an event of `evloop.room.events` is passed as
plain values, or as the event itself, of which only the names of its fields are used.
"""

from __future__ import annotations

from evloop.base.names import display, place_of, quoted
from evloop.system.timers import NEVER
from evloop.terminal.graphemes import padded, width
from evloop.terminal.limits import NAMES_ENTERED_MAX, NAMES_FLOOD_MAX, NAMES_FOLDED_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from typing import Any

# Before the lines that others type to come here.
INVITED = "others type, in a shell:"
INVITED_HERE = "only this machine can come here; in another window, type:"

_NOBODY_CAME = (
    "nobody came yet; if others see this line too, this network keeps its guests apart: a cable, a"
    " hotspot or a directory that all reach helps"
)

UNKNOWN_LOSS = ("loss_percent", 255)  # on the wire of a room, 255 is "unknown"

# `mark` of a message event -> what a person is told behind the text. "" and "history" need no word.
MARKS = {"late": "late", "early": "out of place"}

# JSON escapes C0 by itself; C1, DEL, separators and bidi controls could still act on a terminal.
_JSON_ESCAPES = {
    code: f"\\u{code:04x}"
    for code in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
}


def message_parts(
    name: str, action: bool, text: str, mark: str, said: str = ""
) -> tuple[str, str, str, list[str]]:
    """(before, who, after, lines): `Mel: Good morning!` is "", "Mel", ": ", ["Good morning!"].

    `* Mel waves` is an action, said with /me; `? Mel: hello` is a line whose sender is not known
    (from a plain room). A text without a sender stays on one line: its second line could not be
    told from a message of somebody else. `said` is the time of day of a line that came long after
    it was said.
    """
    if text.isprintable() or mark == "plain" or not name:
        lines = [display(text)]
    else:
        lines = [display(line) for line in text.split("\n")]
    words = [word for word in (MARKS.get(mark), f"said {said}" if said else None) if word]
    if words:
        lines[-1] += f"  [{', '.join(words)}]"
    if mark == "plain":
        return "? ", "", "", lines
    if action:
        return "* ", display(name), " ", lines
    return "", display(name), ": " if name else "", lines


def message_line(name: str, action: bool, text: str, mark: str) -> str:
    """A message as one piece of text; further lines of it are indented to where the text begins."""
    before, who, after, lines = message_parts(name, action, text, mark)
    head = before + who + after
    return head + ("\n" + " " * width(head)).join(lines)


def note(text: str) -> str:
    """A remark of the program itself between the lines of a chat."""
    return f"-- {text} --"


def goes_back(escape: str) -> str:
    """How to leave the only room; `escape` is the name of the key."""
    return f"{escape} or /leave goes back"


def entered(
    room: str, names: Sequence[str], ways_out: str, where: str = "", by_name: str = ""
) -> str:
    """The line with which chat mode begins; `ways_out`: how it ends, or ""; `where`: by which way,
    and that it is sealed; `by_name`: the place of a room that is entered by its name, for no
    directory was found."""
    company = f" with {_names(names, NAMES_ENTERED_MAX)}" if names else ""
    if by_name:
        place = ", ".join(display(it) for it in (f"by its name: {by_name}", where) if it)
        return note(f"in {display(room)} ({place}){company}. No directory was found")
    way = f" ({display(where)})" if where else ""
    return note(f"in {display(room)}{way}{company}{'. ' * bool(ways_out)}{ways_out}")


KEPT_NO_MORE = "the directory keeps no longer what is said here"
KEPT_ALONE = "kept by the directory; nobody else is here"


def kept(days: float) -> str:
    """What is said here is kept for so many days; 0: for as long as there is room."""
    span = f" for {days:g} day{'' if days == 1 else 's'}" if days else ""
    return note(f"the directory keeps what is said here{span}")


def older_missing(why: str) -> str:
    """The directory did not tell all that it keeps."""
    return note(f"the directory does not tell what was said before: {display(why)}")


RELAY_HINT = "; `--relay auto` lets the directory carry the room"


def alone(members: int, interface: str, hint: str = "") -> str:
    """Nothing was heard, although the directory counts others; `hint`: what else would help."""
    return note(
        f"you are alone here, although the directory counts {members} in this room: let UDP to"
        f" 239.0.0.0/8 through the firewall, try another --interface than {interface}, or leave a"
        f" Wi-Fi that keeps its guests apart; /doctor finds out which{hint}"
    )


# What became of a member -> the words behind the names.
PRESENCE = {
    "here": "here too",
    "joined": "joined",
    "visited": "came and went",
    "bye": "left",
    "silent": "not heard any more",
}


def came_and_went(news: Iterable[tuple[str, str]]) -> str:
    """Joins and parts that were folded into one line; `news` holds (a key of PRESENCE, name)."""
    groups: dict[str, list[str]] = {what: [] for what in PRESENCE}
    for what, name in news:
        groups[what].append(name)
    parts = [
        f"{_names(names, NAMES_FOLDED_MAX)} {PRESENCE[what]}"
        for what, names in groups.items()
        if names
    ]
    return note("; ".join(parts))


def _names(names: Sequence[str], most: int) -> str:
    shown = [display(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return ", ".join(shown)


def too_fast(floods: Iterable[tuple[str, int]]) -> str:
    """Lines that were not shown because they came too fast: (name, how many)."""
    most_first = sorted(floods, key=lambda flood: -flood[1])
    named = [
        plural(count, "more line") + (f" from {display(name)}" if name else "")
        for name, count in most_first[:NAMES_FLOOD_MAX]
    ]
    rest = most_first[NAMES_FLOOD_MAX:]
    if rest:
        named.append(f"{sum(count for _, count in rest)} from {len(rest)} others")
    return note(f"{', '.join(named)} (too fast; /history has them)")


# Kinds of remarks that are counted where there are too many -> words for one and for several.
FOLDED = {
    "joined": ("join", "joins"),
    "left": ("leave", "leaves"),
    "renamed": ("rename", "renames"),
    "lost": ("report of a loss", "reports of losses"),
    "conflict": ("conflict", "conflicts"),
    "plain": ("plain text", "plain texts"),
    "full": ("word about a full table", "words about full tables"),
    "unheard": ("member that does not hear you", "members that do not hear you"),
    "line": ("line", "lines"),
    "rooms": ("change of the list of rooms", "changes of the list of rooms"),
    "history": ("word about the history", "words about the history"),
}


def folded(counts: Iterable[tuple[str, int]]) -> str:
    """Remarks of which there were too many; (a key of FOLDED, how many)."""
    words = [f"{count} {FOLDED[kind][count != 1]}" for kind, count in counts]
    return note(f"not shown, because there were too many: {', '.join(words)}; /stats counts on")


def came_later(count: int) -> str:
    """What follows was said before we came, and came late."""
    return note(f"{plural(count, 'message')} from before that came late:")


def history_awaited(missing: int) -> str:
    """The history is not shown yet, because some of it is missing."""
    verb = "is" if missing == 1 else "are"
    return note(f"waiting for the history: {plural(missing, 'message')} {verb} still missing")


def history_cut(missing: int) -> str:
    """The history was shown although some of it is still missing."""
    verb = "is" if missing == 1 else "are"
    return note(f"{plural(missing, 'message')} of the history {verb} still missing")


def namesakes(count: int, name: str) -> str:
    """Others have our name."""
    verb = "other is" if count == 1 else "others are"
    return note(f"{count} {verb} called {display(name)}; /name NEW changes yours")


def foreign(mode: str) -> str:
    """Datagrams of a room of another mode come here."""
    return note(
        f"datagrams of a {mode} room come here and are not shown: this room was entered as plain;"
        f" /leave, then chat ADDRESS:PORT --mode {mode}"
    )


def directory_away(endpoint: str, why: str, delay: float) -> str:
    """The connection was lost; the next try is in `delay` seconds, inf: there will be none."""
    if delay == NEVER:
        return note(f"the directory {endpoint} is left ({quoted(why)}); connect goes back")
    when = f"in {delay:.0f} s" if delay >= 1 else "at once"
    return note(f"the directory {endpoint} is away ({quoted(why)}); next try {when}, chats go on")


def carrier_away(endpoint: str, why: str, delay: float) -> str:
    """The same, of one that carried the room; inf: it does not want us back."""
    if delay == NEVER:
        return directory_away(endpoint, why, delay)
    return note(
        f"the directory {endpoint} is away ({quoted(why)}); you reach nobody here without it;"
        " what is said now comes when it is back"
    )


def still_waiting(endpoint: str, at_the_prompt: bool) -> str:
    """A command waits for the directory for longer than it should."""
    hint = " (Ctrl-C gives up)" if at_the_prompt else ""  # in a room it leaves
    return note(f"still waiting for {endpoint}{hint}")


def directory_back(endpoint: str) -> str:
    return note(f"the directory {endpoint} is back")


def trouble(why: str, where: str = "") -> str:
    """Nothing can be sent because of `why`; "": that is over, and we are in by `where`."""
    if why:
        text = display(why)
        return note(f"cannot send: {text}; what is said now comes when the network is back")
    return note(f"the network is back ({display(where)})" if where else "the network is back")


def road(state: str, why: str, names: Sequence[str]) -> str:
    """The room takes another road because of `why`; `names`: of those whom multicast does not
    bring, as far as they are known."""
    if why == "refused":
        return note("the directory carries no more members: multicast only")
    if state == "full":
        shown, more = names[:2], len(names) - 2
        if not shown:
            who = "others do"
        elif more > 0:
            who = f"{', '.join(map(display, shown))} and {more} more do"
        else:
            who = " and ".join(map(display, shown)) + (" do" if len(shown) > 1 else " does")
        carries = "the directory carries this room for you"
        return note(f"{who} not reach you by multicast: {carries}")
    if state == "up":
        return note("your multicast does not get out: the directory carries what you say")
    if state == "alone" and why == "always":
        return note("this room goes by the directory (--relay always)")
    if state == "alone":
        return note("no multicast on this machine: the directory carries this room")
    return note("multicast works here again; the directory no longer carries this room for you")


def blocked(place: str) -> str:
    """What we send to the group does not come back to us, which the kernel alone does."""
    return note(f"this machine's firewall drops what comes to {place}; doctor says more")


def deaf() -> str:
    """Joining the group anew does not help."""
    return note(
        "still nobody is heard, although this machine joins the group anew every minute; doctor"
        " says more"
    )


def fault(error: str) -> str:
    """An exception in a callback was caught: this program has a bug."""
    return note(
        f"internal error: {display(error)}; what it was about is lost, the room goes on"
        " (/stats counts them as faults; please report it)"
    )


# A table that is full -> what that means. The names are those of a session's "full" event.
_FULL = {
    "gaps": "what is missing is asked for in turns",
    "senders": "somebody new may not be heard",
    "members": "some who are here may not be listed",
    "claims": "of what was said before, some may not be asked for",
    "history": "those that fill it lose their own messages first",
}


def full(table: str) -> str:
    """Somebody floods the room: one of its tables is full."""
    return note(
        f"this room is flooded: too many {display(table)}; {_FULL.get(table, '')}"
        " (/stats counts; it passes when the flood ends)"
    )


def renamed(old: str, new: str) -> str:
    return note(f"{display(old)} is now {display(new)}")


def lost(name: str, count: int) -> str:
    messages = "1 message" if count == 1 else f"{count} messages"
    verb = "is" if count == 1 else "are"
    return note(f"{messages} from {display(name)} {verb} gone: nobody here holds them")


def conflict(name: str, seq: int, mine: bool) -> str:
    if mine:
        return note("somebody else sends under your id; what they sent is not shown")
    return note(f"somebody sent another text as message {seq} of {display(name)}; the first stays")


def unheard(name: str) -> str:
    """A member is heard, and does not hear us."""
    who = display(name)
    return note(f"you hear {who}, {who} does not hear you; /doctor here, and doctor there, say why")


def ago(seconds: float) -> str:
    """A span for a person: "now", "12 s ago", "3 min ago"."""
    if seconds < 1.5:
        return "now"
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def who_lines(
    room: str, members: Iterable[tuple[str, float]], counted: int, deaf: Container[int] = ()
) -> list[str]:
    """`/who`: (shown name, seconds since last heard), oneself first; a head with the total.

    `counted`: how many the directory counts there, 0 where none is asked; `deaf`: which of the
    members do not hear us.
    """
    rows = [
        (display(name), ago(age) + (", does not hear you" if at in deaf else ""))
        for at, (name, age) in enumerate(members)
    ]
    wide = max((width(name) for name, _ in rows), default=0)
    asked = f", the directory counts {counted}" if counted else ""
    head = note(f"{display(room)}: {len(rows)} heard, you included{asked}")
    return [
        head,
        *(f"  {padded(name, wide)}  {age if at else 'you'}" for at, (name, age) in enumerate(rows)),
    ]


def stats_lines(stats: dict[str, int], where: dict[str, str] | None = None) -> list[str]:
    """`/stats`: where the room is, then every counter that is not zero, and known, in order."""
    known = [(key, value) for key, value in stats.items() if (key, value) != UNKNOWN_LOSS]
    rows: list[tuple[str, object]] = [(key, display(text)) for key, text in (where or {}).items()]
    rows += [(key.replace("_", " "), value) for key, value in known if value]
    wide = max((len(key) for key, _ in rows), default=0)
    return [f"  {key:{wide}}  {value}" for key, value in rows] or ["  nothing yet"]


def room_lines(rooms: Sequence[dict[str, object]]) -> list[str]:
    """`getdir` for a person: name, address, port, who is in; the mode where it is not reliable,
    `kept` where what is said there is, and how many the directory carries, where that is told
    (`relayed`)."""
    rows = [
        (
            display(str(room["name"])),
            display(str(room["address"])),
            str(room["port"]),
            f"{room.get('members', 0)} here"
            + (f", {room['relayed']} relayed" if room.get("relayed") else ""),
            f"  {display(str(room['mode']))}"
            if room.get("mode") not in (None, "reliable")
            else "  kept"
            if room.get("keep")
            else "",
        )
        for room in rooms
    ]
    wide = max((width(row[0]) for row in rows), default=0)
    address = max((width(row[1]) for row in rows), default=0)
    return [
        f"  {padded(name, wide)}  {padded(where, address)}  {port:>5}   {members}{mode}"
        for name, where, port, members, mode in rows
    ]


def room_object(room: Any, members: int) -> dict[str, Any]:
    """A RoomEntry as the members of its JSON object."""
    return {
        "name": room.name,
        "address": room.address,
        "port": room.port,
        "mode": room.mode,
        "members": members,
        "made": room.made,
        "keep": room.keep,
    }


def room_made(room: dict[str, object]) -> str:
    place = place_of(display(str(room["address"])), int(str(room["port"])))
    sealed = ", sealed" if room.get("mode") == "sealed" else ""
    return f"made room {display(str(room['name']))}: {place}{sealed}"


def room_deleted(room: dict[str, object]) -> str:
    return f"deleted room {display(str(room['name']))}"


def room_gone(name: str, address: str, port: int, mode: str = "reliable") -> list[str]:
    """The room that one is in was deleted from the directory, and how it comes back: as it was."""
    shown = display(name)
    again = f"makeroom {shown} {display(address)} {port}"
    again += "" if mode == "reliable" else f" --mode {display(mode)}"
    key = ", with a new key" if mode == "sealed" else ""
    return [
        note(f"{shown} was deleted; the talk goes on among who is here, newcomers cannot find it"),
        note(f"at the prompt, {again} makes it again{key}"),
    ]


def room_unknown(name: str) -> str:
    """A directory of 0.1.0, which does not tell whether it is the one of before, lacks the room."""
    return note(f"no such room in this directory: {display(name)}; the talk goes on")


def made_again(name: str, address: str, port: int) -> str:
    """Another directory did not know the room; now it does."""
    return note(f"made room {display(name)} again: {display(place_of(address, port))}")


def not_made_again(name: str, why: str) -> str:
    """The directory did not want the room."""
    return note(f"{display(name)} was not made again: {display(why)}; the talk goes on")


def talk_moves(name: str, place: str) -> str:
    """The room stands at another place now, and so do we."""
    return note(f"{display(name)} is now at {display(place)}; the talk moves there")


def room_moved(name: str, address: str, port: int) -> str:
    """The directory has another room of the name of the one that one is in."""
    return note(
        f"room {display(name)} was made anew at {display(place_of(address, port))}: who enters it"
        f" now does not come here; /leave, then chat {display(name)} follows"
    )


def nobody_came(doctor: bool) -> str:
    """For who hosts a directory; `doctor`: there is such a command."""
    return _NOBODY_CAME + ("; doctor says more" if doctor else "")


def plural(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


# -- for scripts ---------------------------------------------------------------------------------


def json_line(kind: str, /, **members: object) -> str:
    """One object on one line, `v` and `type` first, without characters that act on a terminal."""
    from json import dumps  # late: it is needed with `--json` only

    text = dumps({"v": 1, "type": kind, **members}, ensure_ascii=False, separators=(",", ":"))
    return text if text.isprintable() else text.translate(_JSON_ESCAPES)


def json_message(room: str, event: Any, action: bool, at: str) -> str:
    """A `Said` event as the object that `--json` prints; `action`: it is what its sender does."""
    extra: dict[str, object] = {}
    if action:
        extra["kind"] = "me"
    if event.mark in MARKS or event.mark == "plain":
        extra["mark"] = event.mark
    return json_line(
        event.what,
        room=room,
        name=event.name,
        text=event.text,
        sender=event.sender.hex(),
        seq=event.seq if event.seq >= 0 else None,
        at=at,
        history=event.mark == "history",
        verified=event.verified,
        **extra,
    )


def json_presence(room: str, event: Any) -> str:
    """A Joined, Left, Renamed, Lost or Conflict event as an object: its fields by their names."""
    fields = event._asdict()
    named = {"room": room, "name": fields.pop("name"), "sender": fields.pop("sender").hex()}
    return json_line(fields.pop("what"), **named, **fields)
