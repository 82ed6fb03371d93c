"""Makes Linux look like another system to a program: parts that only Linux has are hidden.

    environ = box(folder, "darwin", "kqueue", "libressl")

makes `folder/sitecustomize.py`, which every Python that is started with this environment reads
before anything else, and which takes away (`hide`):

    darwin     sys.platform; epoll, netlink and the other names of `socket`, `select`, `signal`,
               `os`, `time` that Linux alone has; /proc; Linux's ioctls and private options, which
               fail as elsewhere; a second bind without SO_REUSEPORT; struct ip_mreqn.
               getifaddrs(3) tells sockaddrs and flags in Darwin's layout
    kqueue     `selectors.DefaultSelector` refuses descriptor 0 and terminals, as Darwin's
    libressl   no TLS 1.3, no scrypt: Apple's Python 3.9
    noproc     /proc alone is not there
    noipv6     no IPv6 socket can be made
    deny       the local network is kept from us: macOS 15 before the person has agreed
    asleep:FILE        this machine sleeps: see `follow_sleep`
    refuse:WHAT:ERRNO  see `refuse`

    python3 -m tests.support.elsewhere darwin -- tests/e2e

runs tests in which every program under test sees the other system (the tests see this machine).

Nothing of the repository is imported: this file is read where the package `tests` is not.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MODES = "ELSEWHERE"  # the variable that names them


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# By prefix and by name: what `socket` has on Linux and not on Darwin.
_SOCKET_PREFIXES = _words(
    """
    AF_NETLINK AF_PACKET AF_VSOCK AF_CAN AF_ALG AF_TIPC AF_QIPCRTR AF_RDS AF_BLUETOOTH NETLINK_
    PACKET_ CAN_ ALG_ TIPC_ VMADDR_ SO_VM_ SO_VSOCK SO_BINDTODEVICE SO_DOMAIN SO_MARK
    SO_PASSCRED SO_PASSSEC SO_PEERCRED SO_PEERSEC SO_PRIORITY SO_PROTOCOL SO_INCOMING
    SOCK_CLOEXEC SOCK_NONBLOCK TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_KEEPIDLE TCP_LINGER2
    TCP_QUICKACK TCP_SYNCNT TCP_USER_TIMEOUT TCP_WINDOW_CLAMP TCP_CONGESTION MSG_CMSG_CLOEXEC
    MSG_CONFIRM MSG_ERRQUEUE MSG_MORE MSG_FASTOPEN IP_TRANSPARENT IP_BIND_ADDRESS UDPLITE_
    IOCTL_VM
    """
)
_OS_NAMES = _words(
    """
    eventfd eventfd_read eventfd_write pidfd_open memfd_create sched_setaffinity
    sched_getaffinity sched_setscheduler sched_getscheduler fdatasync posix_fadvise
    posix_fallocate splice copy_file_range getrandom unshare setns timerfd_create getresuid
    pipe2 O_TMPFILE O_PATH O_LARGEFILE O_DIRECT O_NOATIME O_RSYNC preadv2
    """
)
_SIGNAL_NAMES = _words(
    """
    SIGPWR SIGSTKFLT SIGPOLL SIGRTMIN SIGRTMAX sigtimedwait sigwaitinfo
    """
)
# (level, option) that other kernels answer with ENOPROTOOPT: SO_BINDTODEVICE, SO_MEMINFO,
# IP_MULTICAST_ALL, IPV6_MULTICAST_ALL, TCP_KEEPIDLE, TCP_USER_TIMEOUT, SO_PEERCRED.
_LINUX_OPTIONS = {(1, 25), (1, 55), (0, 49), (41, 29), (6, 4), (6, 18), (1, 17)}
_IP_MULTICAST_IF, _IP_ADD_MEMBERSHIP = 32, 35
_IOCTLS = {0x8912, 0x8913, 0x5411, 0x80045432}  # SIOCGIFCONF, SIOCGIFFLAGS, TIOCOUTQ, TIOCGDEV
_IFF_MULTICAST, _DARWINS_IFF_MULTICAST = 0x1000, 0x8000


def box(folder: Path, *modes: str) -> dict[str, str]:
    """The environment of a program elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    here = str(Path(__file__).resolve())
    text = f"""with open({here!r}) as file:
    code = compile(file.read(), {here!r}, "exec")
exec(code, {{"__name__": "elsewhere"}})
"""
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": str(folder), MODES: " ".join(modes)}


def refusal(number: int, what: str = "") -> OSError:
    return OSError(number, os.strerror(number), *([what] if what else []))


def drop(module: Any, names: Iterable[str]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


# -- the modes -------------------------------------------------------------------------------------


def hide_linux() -> None:
    import select
    import signal
    import socket

    # Read while they still see Linux: they judge the platform when they are imported.
    import subprocess  # noqa: F401
    import tempfile  # noqa: F401
    import time

    sys.platform = "darwin"
    drop(select, [name for name in dir(select) if name.lower().startswith("epoll")])
    drop(socket, [name for name in dir(socket) if name.startswith(_SOCKET_PREFIXES)])
    drop(os, _OS_NAMES)
    drop(signal, _SIGNAL_NAMES)
    drop(time, ["CLOCK_BOOTTIME", "CLOCK_TAI"])
    import selectors

    drop(selectors, ["EpollSelector"])
    plain: Any = selectors
    plain.DefaultSelector = selectors.SelectSelector
    hide_proc()
    hide_ioctls()
    hide_options(socket)
    tell_as_darwin()


def hide_proc() -> None:
    """Opening, listing or asking about /proc fails as if there were none."""
    import builtins

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def guard(path: Any = ".", *arguments: Any, **named: Any) -> Any:
            text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
            if text == "/proc" or text.startswith("/proc/"):
                raise refusal(errno.ENOENT, text)
            return real(path, *arguments, **named)

        return guard

    system: Any = os
    for name in ("open", "stat", "lstat", "listdir", "scandir", "readlink", "access"):
        setattr(system, name, guarded(getattr(os, name)))
    inner: Any = builtins
    inner.open = guarded(builtins.open)


def hide_ioctls() -> None:
    import fcntl

    real = fcntl.ioctl

    def ioctl(fd: Any, request: int, *arguments: Any) -> Any:
        if request & 0xFFFFFFFF in _IOCTLS:
            raise refusal(errno.ENOTTY)
        return real(fd, request, *arguments)

    module: Any = fcntl
    module.ioctl = ioctl


def hide_options(socket: Any) -> None:
    real = socket.socket.setsockopt
    asked = socket.socket.getsockopt

    def setsockopt(sock: Any, level: int, option: int, value: Any, *more: int) -> None:
        if (level, option) in _LINUX_OPTIONS:
            raise refusal(errno.ENOPROTOOPT)
        size = len(value) if isinstance(value, bytes) else 4
        most = {_IP_MULTICAST_IF: 4, _IP_ADD_MEMBERSHIP: 8}.get(option, size)
        if level == socket.IPPROTO_IP and size != most:
            raise refusal(errno.EINVAL)
        datagrams = sock.type & 0xF == socket.SOCK_DGRAM
        if level == socket.SOL_SOCKET and option == socket.SO_REUSEADDR and datagrams:
            return  # it takes SO_REUSEPORT to bind a second time
        real(sock, level, option, value, *more)
        if level == socket.SOL_SOCKET and option == socket.SO_REUSEPORT:
            real(sock, level, socket.SO_REUSEADDR, value)

    def getsockopt(sock: Any, level: int, option: int, *size: int) -> Any:
        if (level, option) in _LINUX_OPTIONS:
            raise refusal(errno.ENOPROTOOPT)
        return asked(sock, level, option, *size)

    socket.socket.setsockopt = setsockopt
    socket.socket.getsockopt = getsockopt


def tell_as_darwin() -> None:
    """getifaddrs(3) of this machine, rewritten as Darwin's would tell it."""
    try:
        import ctypes
    except ImportError:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def rewrite(first: int) -> None:
        word = ctypes.sizeof(ctypes.c_void_p)
        at = first
        while at:
            flags = ctypes.c_uint.from_address(at + 2 * word)
            if flags.value & _IFF_MULTICAST:
                flags.value = flags.value & ~_IFF_MULTICAST | _DARWINS_IFF_MULTICAST
            for field in (3, 4):  # the address and its mask
                where = ctypes.c_void_p.from_address(at + field * word).value
                if where:
                    family = ctypes.c_ushort.from_address(where).value
                    head = (ctypes.c_ubyte * 2).from_address(where)
                    # Others than IP are shown as AF_LINK, 18.
                    head[0], head[1] = {2: (16, 2), 10: (28, 10)}.get(family, (20, 18))
            at = ctypes.c_void_p.from_address(at).value or 0

    class Libc:
        freeifaddrs = libc.freeifaddrs

        @staticmethod
        def getifaddrs(first: Any) -> int:
            status: int = libc.getifaddrs(first)
            if status == 0:
                rewrite(ctypes.cast(first._obj, ctypes.c_void_p).value or 0)
            return status

    module: Any = ctypes
    real = ctypes.CDLL
    module.CDLL = lambda name, **more: Libc if name is None else real(name, **more)


def refuse_as_kqueue() -> None:
    import selectors

    class Kqueue(selectors.SelectSelector):
        def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
            fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
            if fd == 0 or os.isatty(fd):
                raise refusal(errno.EINVAL)
            return super().register(fileobj, events, data)

    class Face:
        """Whoever asks must not see a SelectSelector in it."""

        def __init__(self) -> None:
            self._inner = Kqueue()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

    plain: Any = selectors
    plain.DefaultSelector = Face


def hide_modern_tls() -> None:
    import hashlib
    import ssl

    module: Any = ssl
    module.HAS_TLSv1_3 = False
    module.OPENSSL_VERSION = "LibreSSL 2.8.3"
    drop(hashlib, ["scrypt"])


def hide_ipv6() -> None:
    import socket

    plain: Any = socket
    real = socket.socket.__init__

    def make(sock: Any, family: int = -1, *more: Any, **named: Any) -> None:
        if family == socket.AF_INET6:
            raise refusal(errno.EAFNOSUPPORT)
        real(sock, family, *more, **named)

    plain.socket.__init__ = make


def deny_local_network() -> None:
    """What macOS does until the person has agreed: nothing leaves to a group or a neighbour."""
    import socket

    plain: Any = socket

    def sendto(sock: Any, *arguments: Any) -> int:
        raise refusal(errno.EHOSTUNREACH)

    connect = socket.socket.connect

    def connect_not(sock: Any, address: Any) -> None:
        if sock.type & 0xF == socket.SOCK_STREAM and not address[0].startswith("127."):
            raise refusal(errno.EHOSTUNREACH)
        connect(sock, address)

    plain.socket.sendto = sendto
    plain.socket.connect = connect_not


def refuse(what: str, number: int) -> None:
    """One call fails with an errno, always: `setsockopt/LEVEL/OPTION`, `getsockopt/LEVEL/OPTION`,
    `ioctl/REQUEST`, `open/PREFIX` (the built-in, of paths), or an attribute of os: `os/NAME`.

    Errno 0: the name is missing (`os/NAME`, `socket/NAME`).
    """
    kind, _, rest = what.partition("/")
    if number == 0:
        drop(__import__(kind), [rest])
    elif kind in ("setsockopt", "getsockopt"):
        import socket

        level, _, option = rest.partition("/")
        plain: Any = socket.socket
        real = getattr(plain, kind)

        def guard(sock: Any, *arguments: Any) -> Any:
            if arguments[:2] == (int(level), int(option)):
                raise refusal(number)
            return real(sock, *arguments)

        setattr(plain, kind, guard)
    elif kind == "ioctl":
        import fcntl

        module: Any = fcntl
        ioctl = fcntl.ioctl

        def guard_ioctl(fd: Any, request: int, *arguments: Any) -> Any:
            if request & 0xFFFFFFFF == int(rest, 0):
                raise refusal(number)
            return ioctl(fd, request, *arguments)

        module.ioctl = guard_ioctl
    elif kind == "open":
        import builtins

        inner: Any = builtins
        opened = builtins.open

        def guard_open(path: Any, *arguments: Any, **named: Any) -> Any:
            if isinstance(path, str) and path.startswith(rest):
                raise refusal(number, path)
            return opened(path, *arguments, **named)

        inner.open = guard_open
    else:
        assert kind == "os"

        def fail(*arguments: Any, **named: Any) -> Any:
            raise refusal(number)

        setattr(os, rest, fail)


def follow_sleep(path: str) -> None:
    """FILE holds two numbers: for how many seconds a test had this program stopped, and how many
    seconds of sleep of the whole machine that stands for. CLOCK_MONOTONIC stands still in a sleep,
    and CLOCK_BOOTTIME does not."""
    import time

    plain: Any = time
    monotonic, clock_gettime = time.monotonic, time.clock_gettime

    def told() -> tuple[float, float]:
        with open(path) as file:
            stopped, slept = file.read().split()
        return float(stopped), float(slept)

    def gettime(number: int) -> float:
        stopped, slept = told() if number == time.CLOCK_BOOTTIME else (0.0, 0.0)
        return clock_gettime(number) + slept - stopped

    plain.monotonic = lambda: monotonic() - told()[0]
    plain.clock_gettime = gettime


def hide(modes: list[str]) -> None:
    """Take away what the modes say, in this process."""
    simple = {
        "darwin": hide_linux,
        "kqueue": refuse_as_kqueue,
        "libressl": hide_modern_tls,
        "noproc": hide_proc,
        "noipv6": hide_ipv6,
        "deny": deny_local_network,
    }
    for mode in modes:
        if mode.startswith("refuse:"):
            _, what, number = mode.split(":")
            refuse(what, int(number))
        elif mode.startswith("asleep:"):
            follow_sleep(mode.partition(":")[2])
        else:
            simple[mode]()


def main() -> None:
    at = sys.argv.index("--")
    os.environ["TESTS_" + MODES] = " ".join(sys.argv[1:at])
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *sys.argv[at + 1 :]])


if __name__ == "elsewhere":
    hide(os.environ.get(MODES, "").split())
elif __name__ == "__main__":
    main()
