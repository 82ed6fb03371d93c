"""Whom the client trusts: on first use, at a reconnection, and after a change."""

from __future__ import annotations

import pwd
from argparse import Namespace
from pathlib import Path

import pytest

from evloop.base.errors import SetupError
from evloop.directory.limits import TOKENS_TRIED_MAX
from evloop.directory.target import Target
from evloop.directory.trust import Trust
from evloop.net.tls import TlsPipe, server_context
from tests.net.test_tls import Wire
from tests.support.tls_files import Files

PLACE = "box.lan:44444"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


class User:
    """A client's trust; `meet` is a connection to a server with some certificate."""

    def __init__(self, state: Path, **options: object) -> None:
        self.told: list[str] = []
        given = {"tls": False, "tls_ca": None, "tls_cert": None, "tls_key": None, **options}
        self.trust = Trust(Namespace(**given), {"XDG_STATE_HOME": str(state)}, self.told.append)

    def meet(self, cert: str, key: str, place: str = PLACE) -> str | None:
        """Why it was refused, or None."""
        return self.meet_at(Target(place.partition(":")[0], 44444), cert, key)

    def meet_at(self, target: Target, cert: str, key: str) -> str | None:
        pipe = self.trust.pipe(target, target.host)
        assert pipe is not None
        wire = Wire(pipe, TlsPipe(server_context(cert, key), server_side=True))
        wire.to_far += pipe.send(b"secret")
        wire.run()
        assert (wire.read_far == b"secret") == (pipe.failure is None)
        return pipe.failure


def test_without_tls_there_is_no_pipe(tmp_path: Path) -> None:
    assert User(tmp_path).trust.pipe(Target("box.lan", 44444), "box.lan") is None


def test_first_sight_is_told_once_and_names_have_no_case(tmp_path: Path, files: Files) -> None:
    user = User(tmp_path, tls=True)
    assert user.meet(files.cert, files.key) is None
    assert len(user.told) == 1 and "trusting box.lan:44444" in user.told[0]
    assert user.meet(files.cert, files.key, "BOX.lan:44444") is None
    assert len(user.told) == 1


def test_a_change_is_explained_in_full_to_who_connects(tmp_path: Path, files: Files) -> None:
    assert User(tmp_path, tls=True).meet(files.cert, files.key) is None
    user = User(tmp_path, tls=True)
    for _ in range(2):
        why = user.meet(files.other_cert, files.other_key)
        assert why is not None and "HAS CHANGED" in why and "Nothing was sent" in why
    assert user.told == []


def test_a_change_at_a_reconnection_is_explained_once(tmp_path: Path, files: Files) -> None:
    user = User(tmp_path, tls=True)
    user.meet(files.cert, files.key)
    user.told.clear()
    for _ in range(3):
        why = user.meet(files.other_cert, files.other_key)
        assert why == "its certificate is not the one that it was"
    assert len(user.told) == 1 and "HAS CHANGED" in user.told[0]
    assert user.meet(files.cert, files.key) is None, "the right one is welcome again"


def test_with_an_authority_nothing_is_pinned(tmp_path: Path, files: Files) -> None:
    user = User(tmp_path, tls_ca=files.ca)
    assert user.meet(files.cert, files.key, "localhost:44444") is None
    why = user.meet(files.other_cert, files.other_key, "localhost:44444")
    assert why is not None and "not accepted" in why
    assert not (tmp_path / "evloop").exists()


def test_tokens_are_found_by_place_and_folded_name(tmp_path: Path) -> None:
    trust = User(tmp_path).trust
    trust.keep_token("Box.lan:44444", "Café", "ab" * 16)
    assert trust.tokens("box.lan:44444", "CAFE\u0301") == ["ab" * 16]
    assert trust.tokens("box.lan:44444", "tea") == []
    trust.keep_token("127.0.0.1:44444", "tea/Café", "ef" * 16)
    trust.keep_token("[fd00::1]:44444", "Café", "cd" * 16)
    trust.keep_token("192.0.2.1:44444", "Café", "01" * 16)
    # The same directory by another name: those of the room, newest first.
    assert trust.tokens("box.lan:44445", "Café") == ["01" * 16, "cd" * 16, "ab" * 16]
    assert trust.tokens("box.lan:44444", "Café") == ["ab" * 16, "01" * 16, "cd" * 16]
    assert trust.tokens("x:1", "tea/Café") == ["ef" * 16]
    for number in range(20):
        trust.keep_token(f"h{number}:1", "Café", f"{number:032x}")
    assert len(trust.tokens("box.lan:44444", "Café")) == TOKENS_TRIED_MAX


def test_without_a_home_there_is_nothing_to_remember_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """No $HOME, and no entry in the user database either."""

    def unknown(user: int) -> None:
        raise KeyError(f"uid not found: {user}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    options = Namespace(tls=True, tls_ca=None, tls_cert=None, tls_key=None)
    trust = Trust(options, {}, print)
    assert trust.tokens(PLACE, "lab") == []
    with pytest.raises(SetupError, match="no home directory"):
        trust.pipe(Target("box.lan", 44444), "box.lan")
