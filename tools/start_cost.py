"""What a start costs a slow machine: `python3 -m tools.start_cost [--pyz] [EVENT...]`.

Counted are instructions in user space (valgrind's callgrind) and page faults, which are the same on
a Raspberry Pi and on a fast machine, however busy. The events are

    version    `evloop.server --version`
    prompt     the client's first prompt on a terminal, and Ctrl-D
    ready      `evloop.server --memory` listens, and SIGTERM
    said       the client in a room says the first line of a pipe, and its input ends

all with `-S`, in a checkout with compiled files; with `--pyz` from `evloop.pyz` too. The shares of
each are differences of programs that do one thing more than the one before:

    interpreter     `python3 -S -c pass`
    -m              finding and running a module by its name (runpy and what it imports)
    standard        the other modules of the standard library that are loaded
    ours            our modules that are loaded
    work            what the program then does
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = [sys.executable, "-S"]
PLACE = "239.255.113.41:41041"
COLLECTED = re.compile(r"Collected : (\d+)")
IMPORTED = re.compile(rb"import time: +\d+ \| +\d+ \| +([\w.]+)")
SHARES = ("interpreter", "-m", "standard", "ours", "work")
BLOCK = 65_536

# Event: (module, arguments, on a terminal, what is waited for, what is then written or sent).
EVENTS: dict[str, tuple[str, list[str], bool, bytes, bytes | int]] = {
    "version": ("evloop.server", ["--version"], False, b"", b""),
    "prompt": ("evloop.client", [], True, b"evloop> ", b"\x04"),
    "ready": (
        "evloop.server",
        ["--memory", "--no-announce", "--listen", "127.0.0.1:0"],
        False,
        b"listening on",
        signal.SIGTERM,
    ),
    "said": ("evloop.client", ["chat", PLACE], False, b"", b"hello\n"),
}


def run(command: list[str], event: str, folder: str = "") -> tuple[bytes, int]:
    """(all that it wrote, page faults) of a program that meets `event` and ends. `folder`: one more
    place where it finds modules."""
    _, _, terminal, awaited, then = EVENTS[event]
    environ = {**os.environ, "EVLOOP_INTERFACE": "127.0.0.1", "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    environ |= {"PYTHONHASHSEED": "0", "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is not compiled is no start to be measured
    ours, theirs = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        command,
        env=environ,
        cwd=ROOT,
        stdin=theirs if terminal else subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written, done = b"", False
    while True:
        if not done and awaited in written:
            done = True
            if isinstance(then, int):
                process.send_signal(then)
            elif terminal:
                os.write(ours, then)
            else:
                assert process.stdin is not None
                process.stdin.write(then)
                process.stdin.close()
        try:
            data = os.read(ours, BLOCK)
        except OSError:  # a terminal that nobody has open any more
            data = b""
        if not data:
            break
        written += data
    os.close(ours)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    if not done:
        raise SystemExit(f"{' '.join(command)}: no {awaited!r} in {written!r}")
    return written, used.ru_minflt


def counted(command: list[str], event: str, modules: str = "") -> tuple[bytes, int]:
    """(all that it wrote, instructions) of a program up to its end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        written, _ = run([*valgrind, f"--log-file={log}", *command], event, modules)
        found = COLLECTED.search(log.read_text())
    assert found is not None, "callgrind tells what it has counted"
    return written, int(found[1])


def instructions(command: list[str], event: str, modules: str = "") -> int:
    """Instructions of a program up to its end."""
    return counted(command, event, modules)[1]


def loaded(command: list[str], event: str) -> list[str]:
    """The modules that a program loads, in the order in which it is done with them. It runs as it
    does when it is counted: a fast one would load more in the idle moment after its prompt."""
    written, _ = counted([command[0], "-X", "importtime", *command[1:]], event)
    return [name.decode() for name in IMPORTED.findall(written)]


def shares(command: list[str], event: str, total: int) -> list[int]:
    """What SHARES have of the `total` of a program."""
    names = loaded(command, event)
    mine = [name for name in names if name.partition(".")[0] == "evloop"]
    others = [name for name in names if name not in mine]
    counts = [instructions([*PYTHON, "-c", "pass"], "version")]
    with tempfile.TemporaryDirectory() as folder:
        for name, imported in (("none", []), ("standard", others), ("ours", [*others, *mine])):
            lines = [f"import {module}" for module in dict.fromkeys(imported)]
            (Path(folder) / f"{name}.py").write_text("\n".join(lines))
            program = [*PYTHON, "-m", name]
            run(program, "version", folder)  # compiled
            counts.append(instructions(program, "version", folder))
    counts.append(total)
    return [now - before for before, now in zip([0, *counts], counts)]


def main() -> int:
    """Measure, and print a table for docs/performance.md."""
    if shutil.which("valgrind") is None:
        print("start_cost: no valgrind here", file=sys.stderr)
        return 1
    wanted = [word for word in sys.argv[1:] if word in EVENTS] or list(EVENTS)
    print("| event | instructions, millions | page faults", *SHARES, "", sep=" | ")
    print("|---|---|---|" + "---|" * len(SHARES))
    for event in wanted:
        module, arguments, *_ = EVENTS[event]
        command = [*PYTHON, "-m", module, *arguments]
        run(command, event)  # compiled, and in the page cache
        total, faults = instructions(command, event), run(command, event)[1]
        parts = [f"{100 * part / total:.0f} %" for part in shares(command, event, total)]
        print(f"| {event} | {total / 1e6:.1f} | {faults}", *parts, "", sep=" | ", flush=True)
        if "--pyz" in sys.argv:
            _measure_pyz(event, module, arguments)
    return 0


def _measure_pyz(event: str, module: str, arguments: list[str]) -> None:
    from tools.pyz import archive

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evloop.pyz"
        path.write_bytes(archive())
        command = [*PYTHON, str(path), module.rpartition(".")[2], *arguments]
        total, faults = instructions(command, event), run(command, event)[1]
    print(
        f"| {event}, evloop.pyz | {total / 1e6:.1f} | {faults} |" + " |" * len(SHARES), flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
