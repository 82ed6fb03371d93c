"""File systems for tests: one that is soon full, and one whose power is cut."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Crew, Program

# Stops an ext4 at once, and the journal is not written any more: include/uapi/linux/ext4.h.
SHUTDOWN = (
    "import fcntl, os, sys; fcntl.ioctl(os.open(sys.argv[1], 0), 0x8004587D, b'\\2\\0\\0\\0')"
)


@contextmanager
def small_disk_at(place: Path, kib: int) -> Iterator[Path]:
    """A tmpfs of so many KiB at `place`. Unmounted lazily at the end, whatever is open on it."""
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "evloop-test", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class PowerDisk:
    """An ext4 in a file, mounted at `place`, of which `cut` leaves what was synced and no more.

    It is mounted in a mount namespace of its own, so that no other program holds it: run those that
    use it with `prefix`. It goes with the last of them. Skips the test where there can be none.
    """

    def __init__(self, crew: Crew, folder: Path, mib: int) -> None:
        for tool in ("mount", "umount", "mkfs.ext4", "unshare", "nsenter"):
            if shutil.which(tool) is None:
                pytest.skip(f"needs {tool}")
        self.place = folder / "disk"
        self.place.mkdir()
        self._image = folder / "disk.ext4"
        with open(self._image, "wb") as file:
            file.truncate(mib << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True)
        hold = ("unshare", "-m", "--propagation", "private", "sh", "-c", "echo; exec sleep 3600")
        self._holder = Program(hold)
        crew.add(self._holder)
        crew.until(lambda: bool(self._holder.out) or self._holder.done)
        if self._holder.done:
            pytest.skip(f"no mount namespaces here: {self._holder.err}")
        done = self._mount()
        if done.returncode:
            pytest.skip(f"no loop device here: {done.stderr.strip()}")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Words before a command that sees the disk; the process keeps its id."""
        return ("nsenter", "-t", str(self._holder.process.pid), "-m", "-r", f"--wd={ROOT}")

    def run(self, *words: str) -> str:
        """Run a command that sees the disk to its end; return what it printed."""
        done = subprocess.run([*self.prefix, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cut(self) -> None:
        """The power fails: whatever is written from now on, or was not synced, is not there."""
        self.run(sys.executable, "-c", SHUTDOWN, str(self.place))

    def again(self) -> None:
        """It is back. Whoever used the disk has ended."""
        self.run("umount", str(self.place))
        done = self._mount()
        assert done.returncode == 0, done.stderr

    def _mount(self) -> subprocess.CompletedProcess[str]:
        words = [*self.prefix, "mount", "-o", "loop", str(self._image), str(self.place)]
        return subprocess.run(words, capture_output=True, text=True, check=False)
