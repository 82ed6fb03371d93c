"""The options of several servers: what goes together, what is usage, and what files must be."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from evloop.base.errors import CANT_CREATE, USAGE, SetupError
from evloop.daemon.cluster import engine_tls, importer, password_of
from evloop.daemon.options import parse_options
from evloop.daemon.replica import FATAL, Replica

CLUSTER = ("--cluster", "127.0.0.1:2379")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("--directory", "x"), "--directory needs --cluster"),
        (("--site", "x"), "--site needs --cluster"),
        (("--import", "x"), "--import needs --cluster"),
        (("--cluster-ca", "x"), "--cluster-ca needs --cluster"),
        (("--cluster-user", "x"), "--cluster-user needs --cluster"),
        ((*CLUSTER, "--expire", "3"), "--expire cannot be used with --cluster"),
        ((*CLUSTER, "--cluster-cert", "x"), "--cluster-cert needs --cluster-ca"),
        ((*CLUSTER, "--cluster-ca", "x", "--cluster-key", "x"), "--cluster-key needs"),
        ((*CLUSTER, "--cluster-user", "x"), "need each other"),
        ((*CLUSTER, "--directory", "Main"), "name (a-z, 0-9, hyphen)"),
        ((*CLUSTER, "--site", "x" * 33), "name (a-z, 0-9, hyphen)"),
        ((*CLUSTER, "--keep", "all"), "--keep cannot be used with --cluster"),
        ((*CLUSTER, "--keep", "marked"), "--keep cannot be used with --cluster"),
        (("--bridge", "x", "--site", "a"), "needs --cluster"),
        ((*CLUSTER, "--bridge", "x"), "--bridge needs --site"),
        ((*CLUSTER, "--site", "a", "--bridge", "x", "--bridge-user", "u"), "--bridge-user needs"),
        (("--cluster", "a,,b"), "list of HOST:PORT"),
        (("--cluster", ":2379"), "list of HOST:PORT"),
        (("--cluster", ",".join("a" * 17)), "list of HOST:PORT"),
    ],
)
def test_usage(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments)
    assert ended.value.code == USAGE
    assert sentence in capsys.readouterr().err


def test_a_cluster_keeps_nothing_and_one_server_what_its_makers_wish() -> None:
    assert parse_options(()).keep == "marked"
    assert parse_options(CLUSTER).keep == parse_options((*CLUSTER, "--keep", "none")).keep == "none"


def test_a_password_is_one_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    words = (*CLUSTER, "--cluster-user", "u", "--cluster-password-file", str(file))
    options = parse_options(words)
    with pytest.raises(SetupError) as missing:
        password_of(options)
    assert missing.value.exit_status == USAGE
    for text, good in (("secret\n", True), ("secret", True), ("", False), ("a\nb\n", False)):
        file.write_text(text)
        if good:
            assert password_of(options) == "secret"
        else:
            with pytest.raises(SetupError):
                password_of(options)
    file.write_text("x" * 2_000)
    with pytest.raises(SetupError):
        password_of(options)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(SetupError) as ca:
        options = parse_options((*CLUSTER, "--cluster-ca", nowhere))
        engine_tls("--cluster-ca", options.cluster_ca, options.cluster_cert, options.cluster_key)
    assert ca.value.exit_status == USAGE
    with pytest.raises(SetupError) as imported:
        importer(nowhere)
    assert imported.value.exit_status == CANT_CREATE
    assert not Path(nowhere).exists()


def test_an_etcd_of_before_3_4_is_the_end() -> None:
    """Before the ready line: exit 76, with the version in the sentence."""
    rng = random.Random(1)
    replica = Replica("main", "0000abcd", 1, {}, "0" * 16, rng, 0.0)
    replica.handle_timer(0.0)
    (call,) = replica.calls.to_send
    replica.calls.answered(call.number, 200, b'{"etcdserver":"3.3.27"}', 0.1)
    ((kind, sentence, status),) = replica.events
    assert (kind, status) == (FATAL, 76)
    assert "3.3.27" in sentence
