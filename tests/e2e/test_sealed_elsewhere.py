"""Sealed rooms on other roads and with other programs: the relay, an older release, two at once."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.e2e.roles import Releases, use
from tests.support.homes import Home, key_file, make, screen_of
from tests.support.live import Process
from tests.support.processes import Crew, fresh_place, no_trace

pytestmark = pytest.mark.slow


def test_the_directory_carries_a_sealed_room_and_has_no_key(crew: Crew) -> None:
    """No socket is to be had, so all goes through the directory; scripts read and speak too."""
    server = crew.server("--memory")
    group, port = fresh_place()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", port))
        made = crew.client("makeroom", "lab", group, str(port), "--sealed", server=server)
        assert crew.finish(made).status == 0, made.tell()
        ann = crew.chatter("Ann", "lab", server=server)
        bob = crew.chatter("Bob", "lab", server=server)
        crew.in_room(ann, bob)
        assert "-- in lab (sealed, the directory)" in ann.err
        ann.type("pears\n")
        crew.until(lambda: "Ann: pears" in bob.out)
        said = crew.finish(crew.client("--name", "Cid", "say", "lab", "plums", server=server))
        assert said.status == 0, said.tell()
        crew.until(lambda: "Cid: plums" in ann.out and "Cid: plums" in bob.out)
        tail = crew.client("--json", "tail", "-n", "2", "lab", server=server)
        crew.until(lambda: "pears" in tail.out and "plums" in tail.out)
        told = [json.loads(line) for line in tail.lines]
        shown = {it["text"]: it["verified"] for it in told if it["type"] == "message"}
        assert shown == {"pears": True, "plums": True}
        no_trace(ann, bob, tail, said)


@pytest.mark.parametrize("word", ["say", "tail", "chat"])
def test_an_older_client_refuses_a_sealed_room(crew: Crew, releases: Releases, word: str) -> None:
    server = crew.server("--memory")
    place = fresh_place()
    made = crew.client("makeroom", "lab", place[0], str(place[1]), "--sealed", server=server)
    assert crew.finish(made).status == 0, made.tell()
    old = use(crew, releases["old"], server, word, "lab", *(["pears"] if word == "say" else []))
    assert old.status != 0 and old.out == ""
    assert 'mode "sealed"' in old.err, old.tell()
    listed = use(crew, releases["old"], server, "getdir")
    assert listed.status == 0 and listed.lines[0].split()[:2] == ["lab", place[0]], listed.tell()


def test_two_rooms_with_two_keys_and_a_new_name(tmp_path: Path) -> None:
    server = Process().ready()
    try:
        ann, bob, cid = (Home(tmp_path / name, server) for name in ("ann", "bob", "cid"))
        lab, shed = make(ann), make(ann, name="shed")
        assert lab != shed
        with ann.person("Ann", "chat", "lab", "shed") as one:
            one.expect_line("-- in lab (sealed, ")
            with bob.person("Bob", "--key-file", key_file(bob, lab), "chat", "lab") as in_lab:
                in_lab.expect_line("-- in lab (sealed, ")
                shed_key = key_file(cid, shed)
                with cid.person("Cid", "--key-file", shed_key, "chat", "shed") as in_shed:
                    in_shed.expect_line("-- in shed (sealed, ")
                    one.send("pears for lab\r")
                    in_lab.expect_line("Ann: pears for lab")
                    one.send("/switch shed\r")
                    one.expect_last("2:shed >")
                    one.send("/name Anna\r")
                    in_lab.expect_line("Anna")
                    one.send("plums for shed\r")
                    in_shed.expect_line("Anna: plums for shed")
                    one.send("/key\r")
                    one.expect_line(f"key {shed}")
                    in_shed.send("thanks\r")
                    one.expect_line("Cid: thanks")
                    assert "pears" not in screen_of(in_shed)
                    assert "plums" not in screen_of(in_lab)
                    assert lab not in screen_of(one)
    finally:
        server.close()
