"""One call that is Linux's own or optional fails, in whole programs: the scene goes on.

By a filter in the kernel (seccomp, as in containers and sandboxes), and in Python (a missing name,
an option or a file of /proc that is refused).
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.elsewhere import box
from tests.support.processes import ROOT, Crew, Program, Seated, fresh_words, no_trace
from tests.support.seccomp import REFUSED

Prefix = tuple[str, ...]

FILTERS = (
    "netlink",
    "epoll_create1",
    "memfd_create,sendmmsg,recvmmsg",
    "pipe2,prlimit64,sched_getaffinity,pidfd_open",
    "getrandom,statx,clone3",
    "timerfd_create,eventfd2,inotify_init1",
    "netlink,epoll_create1,memfd_create,sendmmsg,recvmmsg,prlimit64,statx,clone3",
    "socketpair,getsockopt,getpeername",
    "sysinfo,madvise,mremap,flock,fchmod,sendmsg,recvmsg,shutdown,getpgid,sched_yield,fstatfs",
    "setsockopt",
)


def seccomp(number: str, calls: str) -> Prefix:
    """What stands before a command, so that the kernel refuses `calls`."""
    prefix = (sys.executable, "-m", "tests.support.seccomp", number, calls, "--")
    done = subprocess.run([*prefix, "true"], cwd=ROOT, check=False)
    if done.returncode == REFUSED:
        pytest.skip("this kernel takes no seccomp filter from us")
    return prefix


def scene(crew: Crew, prefix: Prefix) -> None:
    """A directory, a room, two members in pipes and one at a terminal, a one-shot, the end."""
    server = crew.server(prefix=prefix)
    place = fresh_words()
    made = crew.finish(crew.client("makeroom", "lab", *place, server=server, prefix=prefix))
    assert made.status == 0, made.tell()
    piped = [crew.chatter(name, "lab", server=server, prefix=prefix) for name in ("Ann", "Bob")]
    crew.in_room(*piped)
    words = ["-m", "evloop.client", "--server", server.place, "--name", "Mel", "chat", "lab"]
    seated = Seated([*prefix, sys.executable, *words])
    crew.add(seated)
    crew.until(lambda: "lab>" in seated.out)
    piped[0].type("from a pipe\n")
    crew.until(lambda: all("from a pipe" in one.out for one in (piped[1], seated)))
    seated.type("from a terminal\r")
    crew.until(lambda: all("Mel: from a terminal" in one.out for one in piped))
    said = crew.client("say", "lab", "by a script", server=server, prefix=prefix)
    crew.finish(said)
    assert said.status == 0, said.tell()
    crew.until(lambda: all("by a script" in one.out for one in (*piped, seated)))
    listed = crew.finish(crew.client("getdir", server=server, prefix=prefix))
    assert listed.status == 0 and "lab" in listed.out, listed.tell()
    seated.type("\x1d")
    for one in piped:
        one.end()
    everybody: list[Program] = [*piped, seated]
    crew.until(lambda: all(one.done for one in everybody))
    assert [one.status for one in everybody] == [0, 0, 0], [one.tell() for one in everybody]
    server.signal(15)
    crew.finish(server)
    assert server.status == 0
    no_trace(server, *everybody, said, listed)


@pytest.mark.parametrize("number", ["ENOSYS", pytest.param("EPERM", marks=pytest.mark.slow)])
@pytest.mark.parametrize("calls", FILTERS)
def test_a_sandbox_that_refuses(crew: Crew, calls: str, number: str) -> None:
    scene(crew, seccomp(number, calls))


@pytest.mark.parametrize("number", ["ENOSYS", pytest.param("EPERM", marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", ["getsockname", "ioctl"])
def test_a_sandbox_that_refuses_what_cannot_be_done_without(
    crew: Crew, call: str, number: str
) -> None:
    """One sentence, and not the words for a mistake of ours."""
    prefix = seccomp(number, call)
    programs = [
        crew.start_server(prefix=prefix),
        crew.client("--server", "127.0.0.1:1", "getdir", prefix=prefix),
    ]
    for program in programs:
        crew.finish(program)
        assert program.status in (1, 69), program.tell()
        assert program.err.startswith("evloop: "), program.tell()
        assert "internal error" not in program.err, program.tell()
        assert "\nevloop" not in program.err, program.tell()


# -- what is not mounted ---------------------------------------------------------------------------


def after(mounts: str) -> Prefix:
    """What stands before a command, so that it runs in a mount namespace where that was done."""
    prefix = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")
    if (
        not shutil.which("unshare")
        or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("needs root and mount namespaces")
    return prefix


@pytest.mark.slow
@pytest.mark.parametrize("mounts", ["umount -l /proc", "mount --bind /dev/null /dev/tty"])
def test_a_machine_that_lacks_what_is_mounted_elsewhere(crew: Crew, mounts: str) -> None:
    scene(crew, after(mounts))


# -- in Python -------------------------------------------------------------------------------------

# (level, option) of <sys/socket.h>, <linux/in.h>, <linux/in6.h>, <linux/tcp.h>.
OPTIONS = {
    "SO_BINDTODEVICE": (1, 25),
    "SO_MEMINFO": (1, 55),
    "SO_RCVBUF": (1, 8),
    "IP_MULTICAST_ALL": (0, 49),
    "IPV6_MULTICAST_ALL": (41, 29),
    "IPV6_V6ONLY": (41, 26),
    "IP_PKTINFO": (0, 8),
    "SO_ATTACH_FILTER": (1, 26),
    "SO_KEEPALIVE": (1, 9),
    "TCP_NODELAY": (6, 1),
    "TCP_KEEPIDLE": (6, 4),
    "TCP_KEEPINTVL": (6, 5),
    "TCP_KEEPCNT": (6, 6),
    "TCP_USER_TIMEOUT": (6, 18),
}
NUMBERS = (errno.ENOPROTOOPT, errno.EINVAL, errno.EPERM, errno.ENOSYS)
NAMES = ("os/pidfd_open", "os/sched_getaffinity", "os/memfd_create", "os/pipe2", "os/getrandom",
         "os/posix_spawnp", "socket/SO_BINDTODEVICE", "socket/TCP_USER_TIMEOUT",
         "socket/AF_NETLINK", "socket/MSG_CMSG_CLOEXEC", "socket/if_nameindex",
         "time/CLOCK_BOOTTIME", "select/epoll")  # fmt: skip
CALLS = ("os/memfd_create", "os/sched_getaffinity", "os/pidfd_open", "os/ttyname", "os/fdatasync",
         "os/getgroups")  # fmt: skip


def refusing(folder: Path, *rules: str) -> Prefix:
    environ = box(folder, *(f"refuse:{rule}" for rule in rules))
    return ("env", *(f"{name}={value}" for name, value in environ.items()))


@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[number] for number in NUMBERS])
def test_all_optional_options_at_once(crew: Crew, tmp_path: Path, number: int) -> None:
    rules = [
        f"{call}/{level}/{option}:{number}"
        for level, option in OPTIONS.values()
        for call in ("setsockopt", "getsockopt")
    ]
    scene(crew, refusing(tmp_path / "box", *rules))


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS, ids=[errno.errorcode[number] for number in NUMBERS])
@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_alone(crew: Crew, tmp_path: Path, name: str, number: int) -> None:
    level, option = OPTIONS[name]
    rules = [f"{call}/{level}/{option}:{number}" for call in ("setsockopt", "getsockopt")]
    scene(crew, refusing(tmp_path / "box", *rules))


def test_all_names_that_a_python_may_lack(crew: Crew, tmp_path: Path) -> None:
    scene(crew, refusing(tmp_path / "box", *(f"{name}:0" for name in NAMES)))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_this_python_lacks(crew: Crew, tmp_path: Path, name: str) -> None:
    scene(crew, refusing(tmp_path / "box", f"{name}:0"))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
def test_calls_of_the_system(crew: Crew, tmp_path: Path, number: int) -> None:
    scene(crew, refusing(tmp_path / "box", *(f"{name}:{number}" for name in CALLS)))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT], ids=["EACCES", "ENOENT"])
def test_files_of_proc_and_sys(crew: Crew, tmp_path: Path, number: int) -> None:
    rules = [f"open/{path}:{number}" for path in ("/proc", "/sys", "/etc/machine-id")]
    scene(crew, refusing(tmp_path / "box", *rules))


def test_ioctls(crew: Crew, tmp_path: Path) -> None:
    """TIOCOUTQ or SIOCOUTQ, TIOCGDEV, SIOCGIFCONF, SIOCGIFFLAGS, FIONREAD."""
    numbers = ("0x5411", "0x80045432", "0x8912", "0x8913", "0x541b")
    rules = [f"ioctl/{number}:{errno.ENOTTY}" for number in numbers]
    scene(crew, refusing(tmp_path / "box", *rules))


# -- what nobody has foreseen ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"), [("PermissionError(1, 'not permitted')", 1), ("ValueError('x')", 70)]
)
def test_the_status_says_the_same_as_the_sentence(crew: Crew, error: str, status: int) -> None:
    """An exception that a command meets in the loop, planted in place of a call that connects."""
    program = (
        "import sys\n"
        "from evloop.directory import client\n"
        "def planted(sock):\n"
        f"    raise {error}\n"
        "client.connect_error = planted\n"
        "from evloop.client import main\n"
        f"sys.exit(main(['--server', '{crew.server().place}', 'getdir']))\n"
    )
    command = crew.add(Program([sys.executable, "-c", program]))
    crew.finish(command)
    assert command.status == status, command.tell()
    assert ("internal error" in command.err) is (status == 70), command.tell()
