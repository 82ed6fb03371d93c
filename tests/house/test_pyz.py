"""evloop.pyz: its bytes, its programs by name and by word, and what it tells others to type."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evloop import __version__
from evloop.base.errors import FAILED, UNREACHABLE, USAGE
from tests.e2e.test_system_first import free_port
from tests.support.processes import Crew, Program, Seated, environment, fresh_words
from tests.support.pythons import interpreters
from tests.support.sources import ROOT
from tools import pyz

USING = (ROOT / "docs" / "using.md").read_text()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stick") / "evloop.pyz"
    subprocess.run([sys.executable, "-m", "tools.pyz", str(path)], cwd=ROOT, check=True)
    return path


@pytest.fixture
def run(archive: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program of the archive in a folder that has nothing of ours."""

    def run(*words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *words],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_the_same_bytes_wherever_it_is_built(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    for folder in ("evloop", "tools"):
        shutil.copytree(ROOT / folder, copy / folder, copy_function=shutil.copyfile)
    shutil.copyfile(ROOT / "LICENSE", copy / "LICENSE")
    for path in copy.rglob("*.py"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    other = {**os.environ, "PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-m", "tools.pyz", "one"], cwd=copy, env=other, check=True)
    assert (copy / "one").read_bytes() == archive.read_bytes()


def test_it_holds_evloop_and_nothing_else(archive: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        names = set(zipped.namelist())
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "evloop").rglob("*.py")}
    texts = ours | {"__main__.py"}
    assert names == texts | {f"{name}c" for name in texts} | {"LICENSE"}


@pytest.mark.parametrize("words", [[], ["client"], ["server"]], ids=" ".join)
def test_the_programs_by_word(
    run: Callable[..., subprocess.CompletedProcess[str]], archive: Path, words: list[str]
) -> None:
    done = run(str(archive), *words, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"evloop {__version__}\n", "")
    done = run(str(archive), *words, "--help")
    named = " ".join(["usage: python3 evloop.pyz", *words, "["])
    assert done.returncode == 0 and done.stdout.startswith(named)
    assert ("--memory" in done.stdout) == (words == ["server"])


@pytest.mark.parametrize("name", ["evloop-client", "evloop-server"])
@pytest.mark.parametrize("make", [os.symlink, shutil.copy], ids=["link", "copy"])
def test_the_programs_by_name(
    run: Callable[..., subprocess.CompletedProcess[str]],
    archive: Path,
    tmp_path: Path,
    name: str,
    make: Callable[[Path, Path], object],
) -> None:
    make(archive, tmp_path / name)
    done = run(name, "--help")
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {name} [")
    assert ("--memory" in done.stdout) == (name == "evloop-server")


def test_it_is_a_command_itself(archive: Path) -> None:
    done = subprocess.run([archive, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"evloop {__version__}\n"


def test_exit_statuses_are_passed_on(
    run: Callable[..., subprocess.CompletedProcess[str]], archive: Path
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    done = run(str(archive), "client", "--server", nobody, "getdir")
    assert done.returncode == UNREACHABLE
    assert "? python3 evloop.pyz server starts one" in done.stderr
    assert run(str(archive), "client", "--nosuch").returncode == USAGE
    assert run(str(archive), "server", "--nosuch").returncode == USAGE
    assert run(str(archive), "--time", "never").returncode == USAGE


def test_a_start_compiles_nothing(
    run: Callable[..., subprocess.CompletedProcess[str]], archive: Path
) -> None:
    """Each module comes from the bytecode, none from its source."""
    told = "print(*(one.__file__ for name, one in sys.modules.items() if name[:6] == 'evloop'))"
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); import evloop.__main__; {told}"
    files = run("-c", code).stdout.split()
    assert len(files) > 30
    assert [name for name in files if not name.endswith(".pyc") or ".pyz/" not in name] == []


@pytest.mark.parametrize("words", [[], ["client"], ["server"]], ids=" ".join)
def test_every_python_gets_the_programs_or_one_sentence(
    run: Callable[..., subprocess.CompletedProcess[str]], archive: Path, words: list[str]
) -> None:
    for version, python in interpreters().items():
        done = run(str(archive), *words, "--version", python=python)
        if version >= (3, 9):
            assert (done.returncode, done.stdout, done.stderr) == (0, f"evloop {__version__}\n", "")
        else:
            told = "evloop needs Python 3.9 or newer; this is {}.{} (/".format(*version)
            assert done.returncode == 1 and done.stderr.startswith(told), done.stderr
            assert done.stderr.count("\n") == 1


def _pythons() -> Iterator[str]:
    for name in ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14"):
        if name != "{}.{}".format(*sys.version_info):
            yield from (
                str(path) for path in Path.home().glob(f".pyenv/versions/{name}.*/bin/python")
            )


@pytest.mark.parametrize("python", [*_pythons()] or [None])
def test_another_python_takes_the_sources(
    run: Callable[..., subprocess.CompletedProcess[str]], archive: Path, python: str | None
) -> None:
    if python is None:
        pytest.skip("no other Python here")
    done = run("-W", "error", str(archive), "client", "--help", python=python)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("-W", "error", str(archive), "server", "--version", python=python)
    assert (done.returncode, done.stdout) == (0, f"evloop {__version__}\n")


def test_the_obvious_zipapp_says_what_to_do(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    made = tmp_path / "obvious.pyz"
    command = [sys.executable, "-m", "zipapp", "evloop", "-o", str(made)]
    subprocess.run(command, cwd=ROOT, check=True)
    done = run(str(made))
    assert (done.returncode, done.stdout) == (FAILED, "")
    assert "make pyz" in done.stderr and done.stderr.count("\n") == 1


def two_lines() -> list[str]:
    """The block of docs/using.md for a room full of machines."""
    block = USING[USING.index("## One file") :].partition("```\n")[2].partition("```")[0]
    lines = block.splitlines()
    assert len(lines) == 2 and block in (ROOT / "README.md").read_text()
    return lines


def test_one_file_for_a_room_of_machines(crew: Crew, archive: Path, tmp_path: Path) -> None:
    """The two lines of the page, on loopback: one machine hands the file out, another takes it."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    serve, fetch = two_lines()
    assert serve.startswith("python3 ") and "&& python3 evloop.pyz" in fetch
    words = serve.replace("8000", "0").split()[1:]
    web = Program([sys.executable, "-u", *words, "--bind", "127.0.0.1"], cwd=archive.parent)
    crew.add(web)
    crew.until(lambda: "Serving HTTP" in web.out)
    (web_port,) = re.findall(r" port (\d+) ", web.out)

    place = f"127.0.0.1:{free_port()}"
    plain = {"EVLOOP_PLAIN": "1", "EVLOOP_SERVER": place}
    ann = Seated([sys.executable, str(archive), "--name", "Ann"], environ=plain)
    crew.add(ann)
    crew.until(lambda: ann.out.endswith("evloop> "))
    assert f"\n  python3 evloop.pyz --server {place}\r\n" in ann.out
    ann.type(f"makeroom lab {' '.join(fresh_words())}\nchat lab\n")
    crew.until(lambda: "-- in lab" in ann.out)

    fetch = fetch.replace("curl ", "curl -sS ")
    fetch = fetch.replace(":8000", f":{web_port}").replace("192.0.2.10", "127.0.0.1", 1)
    fetch = fetch.replace("python3", sys.executable)
    other = tmp_path / "other"
    other.mkdir()
    # On a network it would find the other machine by itself.
    environ = {"EVLOOP_SERVER": place}
    bob = Program(["sh", "-c", f"{fetch} --name Bob chat lab"], cwd=other, environ=environ)
    crew.add(bob)
    crew.until(lambda: "-- in lab" in bob.err)
    ann.type("hello\n")
    crew.until(lambda: "Ann: hello" in bob.lines)
    bob.type("hello yourself\n")
    crew.until(lambda: "Bob: hello yourself" in ann.out)
    assert (other / "evloop.pyz").read_bytes() == archive.read_bytes()
    assert pyz.archive() == archive.read_bytes()
