"""What others type to come to where the user is: the lines of `invite`.

A line names an address at which the directory is reached from elsewhere: the one that we ourselves
connected to, or, where that is this machine, each of its addresses on a network at which the
directory listens. An address of loopback is named only when there is no other.
"""

from __future__ import annotations

import errno
import socket

from evloop.base.addresses import (
    DIRECTORY_PORT,
    endpoint_of,
    is_loopback,
    plain_host,
    split_endpoint,
)
from evloop.base.names import display, place_of
from evloop.directory.client import READY
from evloop.net.interfaces import named, read_links
from evloop.net.links import announceable, is_on_link
from evloop.system.process import command_of
from evloop.terminal import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evloop.app.chat import Chat
    from evloop.app.shell import Client
    from evloop.net.links import Link

_UNQUOTED = "@%+=:,./-_"  # besides letters and digits: what no shell has a meaning for


def own_hosts(
    links: Sequence[Link],
    wanted: Link | None,
    asked: bool,
    listens: Callable[[str], bool],
) -> list[str]:
    """The addresses of this machine that `listens` says are served; `wanted` and `asked` as in
    `links.announceable`. IPv4 first; those of one link alone only when there are no others."""
    found = [
        own.text
        for link in announceable(links, wanted, asked)
        for own in link.addresses
        # fe80 means something only with the name that an interface has on one machine; an address
        # that changes often is none to write on a wall.
        if not own.text.startswith("fe") and not own.passing and listens(own.text)
    ]
    lasting = [host for host in found if not is_on_link(host)]
    return sorted(lasting or found, key=lambda host: ":" in host)


def is_served(host: str, port: int) -> bool:
    """Whether something on this machine listens at its own address `host`: then nobody else can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((host, port))
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def hosts_of(
    typed: str, address: Sequence[object], links: Callable[[], list[str]]
) -> tuple[list[str], bool]:
    """(what others may type for the directory that we reached at the numeric socket `address` when
    it was asked for as `typed`, a host; whether only this machine can).

    `links()`: the addresses of this machine at which it serves, as `own_hosts` tells them.
    """
    numeric = plain_host(str(address[0]))
    own = links()
    if is_loopback(numeric) or numeric in own:
        return (own, False) if own else ([numeric], True)
    if "%" in str(address[0]):  # of one link, by a name that is ours alone
        return [typed], False
    names = [] if typed in (numeric, str(address[0])) else [typed]
    return [*names, numeric], False


def lines(hosts: Iterable[str], port: int, tls: bool, room: str, found: bool) -> list[str]:
    """The commands that lead to the directory at `hosts` and `port`, and into `room` ("": to its
    prompt), the shortest first; `found`: it is found without a name, too."""
    into = f" chat {quoted_word(room)}" if room else ""
    secure = " --tls" if tls else ""
    servers = [host if port == DIRECTORY_PORT else endpoint_of(host, port) for host in hosts]
    begin = command_of()
    commands = [f"{begin} --server {quoted_word(server)}{secure}{into}" for server in servers]
    if found:
        commands.append(f"{begin}{secure}{into}")
    return sorted(commands, key=len)


def line_to_place(place: str, mode: str) -> str:
    """The command that leads into the room at `place`, which needs no directory; `mode` is named
    where it is not ""."""
    more = f" --mode {mode}" if mode else ""
    return f"{command_of('client')} chat {quoted_word(place)}{more}"


def quoted_word(word: str) -> str:
    """`word` as one word of a shell."""
    if all(char.isalnum() or char in _UNQUOTED for char in word):
        return word
    return "'" + word.replace("'", "'\\''") + "'"


# -- with the network of this machine --------------------------------------------------------------


def hosts_here(port: int, interface: str | None) -> list[str]:
    """The addresses of this machine at which others reach what listens on `port`."""
    links = read_links()
    wanted = named(links, interface) if interface else None
    return own_hosts(links, wanted, bool(interface), lambda host: is_served(host, port))


def invitation(client: Client, chat: Chat | None) -> tuple[list[str], bool]:
    """(what others type to come to the directory of `client`, and into the room of `chat`; whether
    only this machine can). A room that no directory lists just now is reached by its place."""
    link, options = client.link, client.options
    if chat is not None and not (chat.listed and link.state == READY):
        links = read_links()
        wanted = named(links, options.interface) if options.interface else None
        only_here = not announceable(links, wanted, bool(options.interface))
        return [line_to_place(place_of(*chat.place), chat.mode if chat.plain else "")], only_here
    typed, port = split_endpoint(link.endpoint)
    assert link.address is not None, "it is connected, or was"
    interface = options.interface
    hosts, only_here = hosts_of(typed, link.address, lambda: hosts_here(port, interface))
    found = client.announced and not only_here
    return lines(hosts, port, options.tls, chat.name if chat else "", found), only_here


def show(client: Client) -> None:
    """What `invite` at the prompt does."""
    commands, only_here = invitation(client, None)
    frontend = client.frontend
    if client.options.json:
        for line in commands:
            frontend.show(report.json_line("invite", line=line, here=only_here))
        return
    head = report.INVITED_HERE if only_here else report.INVITED
    frontend.note(f"evloop: {head}")
    for line in commands:
        frontend.show(f"  {display(line)}")
