"""Several servers on an etcd that speaks TLS and asks for a password; and one that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.etcd import ETCD, Etcd, etcdctl, free_ports, real_etcd
from tests.support.processes import ROOT, Crew, Program
from tests.support.rpc import Wire
from tests.support.tls_files import Files

pytestmark = real_etcd


def test_tls_and_a_password(crew: Crew, tmp_path: Path) -> None:
    """A wrong authority, a wrong and a missing password: the server waits and says why."""
    files = Files(tmp_path)
    etcd = Etcd(crew, f"--cert-file={files.cert}", f"--key-file={files.key}")
    try:
        run = etcdctl(etcd, "--cacert", files.ca)
        run("role", "add", "evloop")
        run("role", "grant-permission", "evloop", "--prefix=true", "readwrite", "evloop/main/")
        run("user", "add", "evloop:secret word")
        run("user", "grant-role", "evloop", "evloop")
        run("user", "add", "root:root")
        run("user", "grant-role", "root", "root")
        run("auth", "enable")
        password, wrong = tmp_path / "password", tmp_path / "wrong"
        password.write_text("secret word\n")
        wrong.write_text("another\n")
        cluster = ("--cluster", etcd.endpoint, "--no-announce")
        trusted, mine = ("--cluster-ca", files.ca), ("--cluster-user", "evloop")
        right = (*mine, "--cluster-password-file", str(password))

        good = crew.server(*cluster, *trusted, *right)
        with Wire(good.port) as wire:
            assert wire.result("makeroom", name="lab")["version"] == 1
            assert wire.call("makeroom", name="LAB")["error"]["data"]["reason"] == "room_exists"

        expected = {
            "certificate is not accepted": (*cluster, "--cluster-ca", files.other_cert, *right),
            "password was not accepted": (
                *(*cluster, *trusted, *mine),
                *("--cluster-password-file", str(wrong)),
            ),
            "user name is empty": (*cluster, *trusted),
        }
        waiting = {why: crew.start_server(*words) for why, words in expected.items()}
        for why, server in waiting.items():
            crew.until(lambda why=why, it=server: why in it.err)  # type: ignore[misc]
            assert not server.listens
            assert "secret" not in server.err and "another" not in server.err
        assert "secret" not in good.err
    finally:
        etcd.remove()


def test_a_password_without_tls_is_warned_of(crew: Crew, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("x\n")
    server = crew.start_server(
        *("--cluster", "127.0.0.1:1", "--no-announce"),
        *("--cluster-user", "u", "--cluster-password-file", str(password)),
    )
    crew.until(lambda: "the password for etcd can be overheard" in server.err)


@pytest.mark.slow
def test_the_copy_of_the_last_time_is_served_when_etcd_is_away(crew: Crew, tmp_path: Path) -> None:
    """After 10 s; it says that it is stale, and takes no changes; then etcd comes back."""
    etcd = Etcd(crew)
    copy = str(tmp_path / "copy.db")
    words = ("--cluster", etcd.endpoint, "--no-announce", "--state", copy)
    try:
        first = crew.server(*words)
        with Wire(first.port) as wire:
            wire.result("makeroom", name="lab")
            identity = wire.result("hello")["id"]
        first.process.terminate()
        crew.finish(first)
        etcd.stop()

        second = crew.server(*words)
        with Wire(second.port) as wire:
            hello = wire.result("hello")
            assert (hello["id"], hello["version"]) == (identity, 1)
            assert hello["stale"] >= 10
            assert [room["name"] for room in wire.rooms()] == ["lab"]
            refused = wire.call("makeroom", name="hall")["error"]["data"]["reason"]
            assert refused == "storage_failed"
            asked = crew.finish(crew.client("getdir", server=second))
            assert asked.status == 0
            assert "cut off from its store" in asked.err
            etcd.start()
            crew.until(lambda: "the cluster answers" in second.err)
            assert wire.result("makeroom", name="hall")["version"] == 2
            assert "stale" not in wire.result("hello")
    finally:
        etcd.remove()


def test_the_example_configuration_of_etcd_starts(crew: Crew, tmp_path: Path) -> None:
    """contrib/cluster/etcd.yaml, with its names put in and for one member: etcd serves."""
    text = (ROOT / "contrib" / "cluster" / "etcd.yaml").read_text()
    text = text[text.index("name:") :].replace(",b=http://@B@:2380,c=http://@C@:2380", "")
    client, peer = free_ports(2)
    given = {
        "@NAME@": "a",
        "@IP@": "127.0.0.2",
        "@A@": "127.0.0.2",
        ":2380": f":{peer}",
        ":2379": f":{client}",
        "/var/lib/evloop-etcd": str(tmp_path / "data"),
    }
    for word, value in given.items():
        assert word in text
        text = text.replace(word, value)
    assert "@" not in text
    file = tmp_path / "etcd.yaml"
    file.write_text(text)
    program = Program([str(ETCD), f"--config-file={file}"])
    crew.add(program)
    crew.until(lambda: "ready to serve client requests" in program.out + program.err)
