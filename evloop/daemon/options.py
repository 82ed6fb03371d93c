"""The options of the server."""

from __future__ import annotations

from evloop import __version__
from evloop.base.addresses import DIRECTORY_PORT, split_endpoint
from evloop.base.errors import SERVER_STATUSES, SetupError, status_lines
from evloop.daemon.limits import (
    CHANGES_PER_S,
    CLIENTS_MAX,
    CLIENTS_PER_ADDRESS_MAX,
    ENGINE_ENDPOINTS_MAX,
    EXPIRE_DAYS_MAX,
    KEEP_DAYS,
    KEEP_DAYS_MAX,
    RELAY_MEMBERS_MAX,
    WORD_CHARS_MAX,
)
from evloop.directory.limits import ROOMS_MAX, ROOMS_PER_ADDRESS_MAX
from evloop.system.process import answer_version, formatter, name_of, parser_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

VERSION = f"evloop {__version__}"


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The options, complete and checked; leaves with status 2 when they are wrong."""
    answer_version(arguments, VERSION)
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.tls_cert is None and (options.tls_key or options.tls_client_ca):
        parser.error("--tls-key and --tls-client-ca need --tls-cert")
    if options.backup is not None and options.memory:
        parser.error("--memory keeps nothing that --backup could copy")
    _check_cluster(parser, options)
    if options.keep is None:
        options.keep = "marked" if options.cluster is None else "none"
    return options


_OF_A_BRIDGE = (
    "bridge",
    "bridge_ca",
    "bridge_cert",
    "bridge_key",
    "bridge_user",
    "bridge_password_file",
)
_OF_A_CLUSTER = (
    "directory",
    "cluster_ca",
    "cluster_cert",
    "cluster_key",
    "cluster_user",
    "cluster_password_file",
    "import_file",
    "site",
    *_OF_A_BRIDGE,
)


def _check_cluster(parser: ArgumentParser, options: Namespace) -> None:
    """What goes together with --cluster, and what does not."""
    if options.cluster is None:
        for name in _OF_A_CLUSTER:
            if getattr(options, name) is not None:
                word = "import" if name == "import_file" else name.replace("_", "-")
                parser.error(f"--{word} needs --cluster")
    elif options.expire is not None:
        parser.error("--expire cannot be used with --cluster: an operator deletes rooms there")
    elif options.keep in ("marked", "all"):
        parser.error("--keep cannot be used with --cluster: each server would keep a part")
    if options.cluster_cert is not None and options.cluster_ca is None:
        parser.error("--cluster-cert needs --cluster-ca")
    if options.cluster_key is not None and options.cluster_cert is None:
        parser.error("--cluster-key needs --cluster-cert")
    if (options.cluster_user is None) != (options.cluster_password_file is None):
        parser.error("--cluster-user and --cluster-password-file need each other")
    _check_bridge(parser, options)


def _check_bridge(parser: ArgumentParser, options: Namespace) -> None:
    if options.bridge is None:
        for name in _OF_A_BRIDGE:
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} needs --bridge")
    elif options.site is None:
        parser.error("--bridge needs --site: between which sites it carries rooms")
    if options.bridge_cert is not None and options.bridge_ca is None:
        parser.error("--bridge-cert needs --bridge-ca")
    if options.bridge_key is not None and options.bridge_cert is None:
        parser.error("--bridge-key needs --bridge-cert")
    if options.bridge_user is not None and options.bridge_password_file is None:
        parser.error("--bridge-user needs --bridge-password-file")


def make_parser() -> ArgumentParser:
    """What the options are, as argparse takes them; `tools/completion.py` reads it too."""
    from argparse import RawDescriptionHelpFormatter  # late: 6 ms

    parser = parser_kind()(
        prog=name_of("server"),
        allow_abbrev=False,
        formatter_class=formatter(RawDescriptionHelpFormatter),
        description="The directory of evloop's chat rooms.",
        epilog="On a terminal, help lists the commands of the operator's console.\n\n"
        + "\n".join(status_lines(SERVER_STATUSES)),
    )
    parser._optionals.title = "options"  # Python 3.9 calls them "optional arguments"
    add = parser.add_argument
    add(
        "--listen",
        metavar="HOST:PORT",
        action="append",
        help=f"where to listen (again for more); default: every address, port {DIRECTORY_PORT};"
        " port 0 takes any free one and prints it",
    )
    add("--interface", metavar="NAME|ADDRESS", help="the one interface for multicast")
    add("--name", metavar="TEXT", type=_name, help="what others see it called (default: this host)")
    add("--no-announce", action="store_true", help="do not announce it on the network")
    add("--no-probe", action="store_true", help="send nothing to a group when doctor asks for it")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--state", metavar="FILE", help="where the rooms are kept (sqlite3)")
    place.add_argument("--memory", action="store_true", help="keep the rooms in memory only")
    add("--backup", metavar="FILE", help="copy state and history to FILE[.history], and end")
    for name, default, what in (
        ("--max-clients", CLIENTS_MAX, "connections at once; 0: as many as the system allows"),
        ("--max-per-address", CLIENTS_PER_ADDRESS_MAX, "of them from one address; 0: any"),
        ("--max-rooms", ROOMS_MAX, "rooms; 0: any number"),
        ("--rooms-per-address", ROOMS_PER_ADDRESS_MAX, "rooms made from one address; 0: any"),
        ("--change-rate", CHANGES_PER_S, "changes a second from one address; 0: any"),
    ):
        add(name, metavar="N", type=_count, default=default, help=f"{what} (default {default})")
    _add_relay(parser)
    _add_trust(parser)
    _add_cluster(parser)
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("--quiet", action="store_true", help="log warnings and errors only")
    loud.add_argument("-v", "--verbose", action="store_true", help="log every connection")
    add("--debug", action="store_true", help="show the trace of an internal error")
    add("--version", action="version", version=VERSION)
    return parser


def _add_relay(parser: ArgumentParser) -> None:
    """Options of the relay: rooms carried for whom multicast does not reach."""
    add = parser.add_argument
    add(
        "--relay",
        choices=("on", "off"),
        default="on",
        help="whether to carry rooms for clients that multicast does not reach (default on)",
    )
    add(
        "--relay-members",
        metavar="N",
        type=_count,
        default=RELAY_MEMBERS_MAX,
        help=f"for how many at once; 0: as --relay off (default {RELAY_MEMBERS_MAX})",
    )
    add(
        "--ttl",
        metavar="N",
        type=_ttl,
        default=1,
        help="routers that what it sends to a group may pass, plus 1 (default 1)",
    )


def _add_trust(parser: ArgumentParser) -> None:
    """Options for a server that strangers can reach."""
    add = parser.add_argument
    add(
        "--delete",
        choices=("anyone", "owner"),
        default="anyone",
        help="who may delete a room (default anyone); owner: who has the token that made it",
    )
    add(
        "--keep",
        choices=("none", "marked", "all"),
        help="which rooms' history to keep (default marked: those whose makers wish it)",
    )
    add(
        "--keep-days",
        metavar="N",
        type=_days_or_never,
        default=KEEP_DAYS,
        help=f"days for which it is kept; 0: any number (default {KEEP_DAYS:g})",
    )
    add("--keep-file", metavar="FILE", help="where (default history.db beside the state file)")
    add(
        "--expire",
        metavar="DAYS",
        type=_days,
        help="remove rooms in which nobody was for that long (default never)",
    )
    add("--tls-cert", metavar="FILE", help="speak TLS, with this certificate (PEM)")
    add("--tls-key", metavar="FILE", help="its key, where it is not in the same file")
    add("--tls-client-ca", metavar="FILE", help="let in only clients that this authority signed")
    add("--make-cert", metavar="FILE", help="make a certificate in FILE, its key in FILE.key")
    add("--metrics-file", metavar="FILE", help="write figures for Prometheus every 15 s")
    add(
        "--stats-from",
        metavar="ADDRESS",
        action="append",
        default=[],
        type=_address,
        help="answer stats to this address too (again for more)",
    )


def _add_cluster(parser: ArgumentParser) -> None:
    """Options for one of several servers of one directory."""
    add = parser.add_argument
    add(
        "--cluster",
        metavar="HOST:PORT,...",
        type=_endpoints,
        help="keep the directory in etcd, which other servers do too (its members)",
    )
    add("--directory", metavar="NAME", type=_word, help="which one in that etcd (default main)")
    add("--site", metavar="NAME", type=_word, help="where this server stands (default main)")
    add("--import", dest="import_file", metavar="FILE", help="put this state file into the etcd")
    add("--cluster-ca", metavar="FILE", help="speak TLS with etcd, whose certificate this signed")
    add("--cluster-cert", metavar="FILE", help="our certificate for etcd (PEM)")
    add("--cluster-key", metavar="FILE", help="its key, where it is not in the same file")
    add("--cluster-user", metavar="NAME", help="our name for etcd")
    add("--cluster-password-file", metavar="FILE", help="the password for it, one line")
    add(
        "--bridge",
        metavar="HOST:PORT,...",
        type=_endpoints,
        help="carry rooms between this site and others, over these NATS servers",
    )
    add("--bridge-ca", metavar="FILE", help="speak TLS with NATS, whose certificate this signed")
    add("--bridge-cert", metavar="FILE", help="our certificate for NATS (PEM)")
    add("--bridge-key", metavar="FILE", help="its key, where it is not in the same file")
    add("--bridge-user", metavar="NAME", help="our name for NATS")
    add("--bridge-password-file", metavar="FILE", help="its password; without a name a token")


def _endpoints(text: str) -> str:
    """HOST:PORT,... of up to 16; argparse words the error."""
    parts = text.split(",")
    if len(parts) > ENGINE_ENDPOINTS_MAX or not all(parts):
        raise ValueError(text)
    for part in parts:
        try:
            host, _ = split_endpoint(part)
        except SetupError:
            raise ValueError(text) from None
        if not host:
            raise ValueError(text)
    return text


_endpoints.__name__ = "list of HOST:PORT"


def _word(text: str) -> str:
    """A name of letters, digits and hyphens; argparse words the error."""
    letters = set("abcdefghijklmnopqrstuvwxyz0123456789-")
    if not 1 <= len(text) <= WORD_CHARS_MAX or not letters.issuperset(text):
        raise ValueError(text)
    return text


_word.__name__ = "name (a-z, 0-9, hyphen)"


def _count(text: str) -> int:
    """A number that is not negative; argparse words the error."""
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError(text)
    return int(text)


_count.__name__ = "number"


def _ttl(text: str) -> int:
    """0 (this host) to 255; argparse words the error."""
    ttl = _count(text)
    if ttl > 255:
        raise ValueError(text)
    return ttl


_ttl.__name__ = "number from 0 to 255"


def _name(text: str) -> str:
    """Something that can be shown; argparse words the error."""
    if not text.strip() or not text.isprintable():
        raise ValueError(text)
    return text.strip()


_name.__name__ = "name"


def _days(text: str) -> float:
    """Days, fractions allowed; argparse words the error."""
    days = float(text)
    if not 0 < days <= EXPIRE_DAYS_MAX:
        raise ValueError(text)
    return days


def _days_or_never(text: str) -> float:
    """Days, fractions allowed, or 0; argparse words the error."""
    days = float(text)
    if not 0 <= days <= KEEP_DAYS_MAX:
        raise ValueError(text)
    return days


_days_or_never.__name__ = "number of days"
_days.__name__ = "number of days"


def _address(text: str) -> str:
    """A numeric address in the form in which the kernel shows it."""
    from ipaddress import ip_address

    return str(ip_address(text))


_address.__name__ = "address"
