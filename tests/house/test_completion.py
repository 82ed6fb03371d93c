"""contrib/completion: the committed files are what is generated, and the real shells take them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evloop.app.commands import words_at
from tests.support.processes import Crew, Seated, Server, environment, installed
from tests.support.sources import ROOT
from tools import completion

FOLDER = ROOT / "contrib" / "completion"
FILES = completion.files()
PROGRAMS = ("evloop", "evloop-client", "evloop-server")
SHELLS = ("bash", "zsh", "fish")
HOSTILE = "$(>pwned)`>pwned`;>pwned"  # the name of a room, as a stranger may choose it


def test_the_committed_files_are_what_is_generated() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == FILES, (
        "python3 -m tools.completion writes them"
    )


def _long(program: str) -> set[str]:
    """The long options as the program's help has them."""
    module = {"evloop": "evloop", "evloop-client": "evloop.client"}.get(program, "evloop.server")
    command = [sys.executable, "-m", module, "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    before = text.partition("commands (without")[0]
    return {word.strip("[],.:;") for word in before.replace(",", " ").split() if word[:2] == "--"}


# -- the shells ------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the three programs by name, as an installation has them."""
    return installed(tmp_path / "bin")


BASH = """
. {folder}/evloop.bash
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
function=$(complete -p "${{1##*/}}") function=${{function#*-F }}
"${{function%% *}}" 2>&1
for one in "${{COMPREPLY[@]}}"; do printf '%s\\n' "$one"; done
"""

ZSH = """
fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D
zstyle ':completion:*' list-colors; setopt list_packed
compadd() {{  # what would be offered is told, one candidate a line
    local -a told; builtin compadd -A told "$@"
    local one; for one in $told; do print -r -- "<$one>" >>$TOLD; done
    builtin compadd "$@"
}}
"""


def _ask(crew: Crew, programs: Path, tmp_path: Path, shell: str, words: list[str]) -> set[str]:
    """What `shell` offers for the last of `words`, behind the others."""
    path = f"{programs}:/usr/bin:/bin"
    if shell == "zsh":
        return _ask_zsh(crew, path, tmp_path, words)
    if shell == "bash":
        code = BASH.format(folder=FOLDER)
        command = ["bash", "--norc", "-c", code, "bash", *words]
    else:
        line = " ".join(words)
        files = " ".join(f"{FOLDER}/{name}.fish" for name in PROGRAMS)
        code = f"for file in {files}; source $file; end; complete -C '{line}'"
        command = ["fish", "--no-config", "-c", code]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(PATH=path, HOME=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return {line.partition("\t")[0] for line in done.stdout.splitlines()}


def _ask_zsh(crew: Crew, path: str, tmp_path: Path, words: list[str]) -> set[str]:
    """zsh completes only where a line is edited: on a terminal, with a real Tab."""
    start, told = tmp_path / "start", tmp_path / "told"
    start.write_text(ZSH.format(folder=FOLDER))
    told.write_text("")
    home = {"HOME": str(tmp_path), "TOLD": str(told), "PATH": path, "ZDOTDIR": str(tmp_path)}
    zsh = Seated(["zsh", "-f", "-i"], environ={**home, "PS1": "zsh> "}, cwd=tmp_path)
    crew.add(zsh)
    crew.until(lambda: zsh.out.endswith("zsh> ") or "zsh> " in zsh.out)
    zsh.type(f". {start}; print re''ady\n")
    crew.until(lambda: "ready" in zsh.out)
    # The second Ctrl-X command is run after the first has come back: then all has been told.
    zsh.type(
        "done-telling() { print over >>$TOLD }; zle -N done-telling; bindkey '^Xd' done-telling"
    )
    zsh.type("; print bou''nd\n")
    crew.until(lambda: "bound" in zsh.out)
    zsh.type(" ".join(words) + "\t\x18d")
    crew.until(lambda: "over" in told.read_text(), every=0.05)
    crew.programs.remove(zsh)
    zsh.close()
    return {line[1:-1] for line in told.read_text().splitlines() if line[:1] == "<"}


@pytest.fixture(params=SHELLS)
def ask(
    request: pytest.FixtureRequest, crew: Crew, programs: Path, tmp_path: Path
) -> Callable[..., set[str]]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")

    def ask(*words: str) -> set[str]:
        return _ask(crew, programs, tmp_path, request.param, list(words))

    return ask


def test_commands(ask: Callable[..., set[str]]) -> None:
    assert ask("evloop-client", "") >= set(words_at("shell"))
    assert ask("evloop", "ma") == {"makeroom"}
    assert ask("evloop-client", "--server", "box", "--tls", "t") == {"tail"}
    assert ask("evloop-client", "help", "get") == {"getdir"}
    nothing_else = ask("evloop-client", "getdir", "")  # zsh offers options then
    assert [word for word in nothing_else if word[:1] != "-"] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_options(ask: Callable[..., set[str]], program: str) -> None:
    assert ask(program, "--") == _long(program)


def test_values(ask: Callable[..., set[str]]) -> None:
    assert ask("evloop-client", "--color", "") == {"auto", "always", "never"}
    assert ask("evloop-client", "--time", "i") == {"iso"}
    assert ask("evloop-server", "--delete", "") == {"anyone", "owner"}
    assert "lo" in ask("evloop", "--interface", "")
    assert ask("evloop-client", "--name", "") == set()
    assert ask("evloop-client", "makeroom", "lab", "--mode", "p") == {"plain"}


def test_options_of_a_command(ask: Callable[..., set[str]]) -> None:
    assert {"--mode", "--json"} <= ask("evloop-client", "tail", "--")
    assert ask("evloop-client", "say", "--") == {"--mode"}
    assert "--mode" not in ask("evloop-client", "getdir", "--")


def test_files(ask: Callable[..., set[str]], tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("")
    assert ask("evloop-server", "--tls-cert", "cer") == {"cert.pem"}
    assert ask("evloop-client", "--tls-ca", "cer") == {"cert.pem"}


def test_rooms_as_they_are_called(ask: Callable[..., set[str]], crew: Crew, tmp_path: Path) -> None:
    server = crew.server()
    for name in ("lab", "lobby", "ops", HOSTILE):
        made = crew.piped("", "makeroom", name, server=server)
        assert made.status == 0, made.tell()
    for command in ("chat", "tail", "say", "deleteroom"):
        found = ask("evloop-client", "--server", server.place, command, "l")
        assert found == {"lab", "lobby"}, command
    found = ask("evloop-client", "--server", server.place, "chat", "")
    assert {"lab", "lobby", "ops"} <= found and len(found) == 4
    assert not (tmp_path / "pwned").exists()


def test_bash_puts_a_room_into_the_line_quoted(crew: Crew, programs: Path, tmp_path: Path) -> None:
    """With a real Tab in a real line, that is then run."""
    server: Server = crew.server()
    assert crew.piped("", "makeroom", HOSTILE, server=server).status == 0
    home = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path), "PS1": "sh> "}
    bash = Seated(["bash", "--norc", "--noprofile", "-i"], environ=home, cwd=tmp_path)
    crew.add(bash)
    bash.type(f". {FOLDER}/evloop.bash; export EVLOOP_SERVER={server.place}; echo re''ady\n")
    crew.until(lambda: "ready" in bash.out)
    bash.type("evloop-client deleteroom \t\n")
    crew.until(lambda: "deleted room" in bash.out or "evloop:" in bash.out)
    assert f"deleted room {HOSTILE}" in bash.out
    assert not (tmp_path / "pwned").exists()
