"""Modules that the first prompt does not need, loaded soon after it.

A session at a prompt lasts for hours. By the time of its first room the files may be those of
another release (`git pull`, `pip install -U`), or gone (a removed USB stick): a module loaded then
would end the command with an error. So all of them are loaded soon after the prompt, one in each
tick, so that typing is never delayed for long.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def steps() -> Iterator[None]:
    """Each step loads one module, and what that one needs."""
    import evloop.terminal.layout

    yield
    import evloop.app.completion

    yield
    import evloop.app.presence

    yield
    import evloop.directory.trust

    yield
    yield from _search()
    import evloop.app.invite

    yield
    import evloop.app.making

    yield
    import evloop.app.room_keys

    yield
    import evloop.terminal.hidden

    yield
    import evloop.terminal.key_notes

    yield
    import evloop.system.child

    yield
    import evloop.app.remarks  # noqa: F401

    yield
    yield from _rooms()


def _rooms() -> Iterator[None]:
    """What a room needs, and what follows the network."""
    import evloop.app.chat

    yield
    import evloop.app.room_commands

    yield
    import evloop.net.compat

    yield
    import evloop.net.links

    yield
    import evloop.net.netlink

    yield
    import evloop.directory.doubt

    yield
    import evloop.net.interfaces

    yield
    import evloop.net.multicast

    yield
    import evloop.room.attachment

    yield
    import evloop.app.network

    yield
    import evloop.room.relay

    yield
    import evloop.app.carrying

    yield
    import evloop.room.live

    yield
    import evloop.room.reliable.session

    yield
    import evloop.room.plain

    yield
    import evloop.room.reliable.older

    yield
    import evloop.room.reliable.sealing

    yield
    import evloop.room.reliable.entrance

    yield
    import evloop.app.checkup  # noqa: F401

    yield


def _search() -> Iterator[None]:
    """What searches for a directory, now or when the one that is connected is lost."""
    import evloop.directory.key_file

    yield
    import evloop.directory.known

    yield
    import evloop.directory.places

    yield
    import evloop.directory.announcement

    yield
    import evloop.directory.discovery

    yield
    import evloop.directory.browser

    yield
    import evloop.directory.yielding

    yield
    import evloop.terminal.directories

    yield
    import evloop.app.finding  # noqa: F401

    yield
