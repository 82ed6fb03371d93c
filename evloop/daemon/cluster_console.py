"""The console of one of several servers: what they are, and a deletion that takes its time."""

from __future__ import annotations

from evloop.base.names import display, quoted
from evloop.base.strictjson import decode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from evloop.base.errors import Refused
    from evloop.daemon.cluster import Cluster
    from evloop.daemon.console import Answer, Console


def answers(
    usual: Mapping[str, tuple[str, Answer]], cluster: Cluster
) -> dict[str, tuple[str, Answer]]:
    """The usual commands, and those of one of several servers."""

    def servers(console: Console, rest: str) -> list[str]:
        return server_lines(cluster)

    def deleteroom(console: Console, rest: str) -> list[str]:
        def then(body: bytes, refused: Refused | None) -> None:
            if refused is not None:
                console.say(refused.sentence)
            else:
                console.say(f"deleted room {display(decode(body)['room']['name'])}")

        cluster.dispatcher.operator_deletes(rest, then)
        return []

    rows = dict(usual)
    rows["deleteroom"] = usual["deleteroom"][0], deleteroom
    rows["servers"] = "servers            the servers of this directory", servers
    for last in ("help", "quit"):
        rows[last] = rows.pop(last)
    return rows


def server_lines(cluster: Cluster) -> list[str]:
    """A line for each server: its number, its site, where it listens, its release; ours first."""
    census, own = cluster.replica.census, cluster.replica.server
    lines = []
    for server in sorted(census.servers, key=lambda one: (one != own, one)):
        said = census.servers[server]
        listen = said.get("listen")
        where = " ".join(map(str, listen)) if type(listen) is list else ""
        site, release = str(said.get("site", "")), str(said.get("evloop", ""))
        here = "this one" if server == own else ""
        words = (server, display(site[:32]), quoted(where, 80), quoted(release, 16), here)
        lines.append(f"  {'  '.join(words)}".rstrip())
    return lines or [f"no servers are known: {cluster.replica.why}"]
