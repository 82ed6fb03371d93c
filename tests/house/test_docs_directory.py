"""docs/directory-protocol.md and the code list the same things, in both directions.

What stands in the code is read from the code: from its tables where it has some, from the calls
that make errors and notifications where it has none, and from what a server answers. How the
examples of the page are run is in tests/e2e.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import evloop
from evloop.base.names import check_address, fold, place_of
from evloop.daemon.dispatcher import HANDLERS
from evloop.daemon.metrics import (
    COUNTERS,
    GAUGES,
    Metrics,
)
from evloop.directory import protocol, requests
from evloop.directory.limits import PLACES_OF_A_NAME
from evloop.directory.places import places_of
from tests.house.pages import Page, coded, plain
from tests.support.live import House
from tests.support.pairs import both
from tests.support.sources import (
    PACKAGE,
    ROOT,
    nodes_of,
    tree_of,
)

PAGE = Page(ROOT / "docs" / "directory-protocol.md")
COLUMNS_MAX = 100


@pytest.fixture
def house() -> Iterator[House]:
    house = House("--change-rate", "0", "--interface", "127.0.0.1")
    yield house
    house.close()


# -- methods and params --------------------------------------------------------------------------


def _described() -> dict[str, tuple[list[str], list[str]]]:
    """method -> (params, members of the result), a `?` behind those that may be absent."""
    found = {}
    for method, given, gives in PAGE.table("Methods", "method"):
        cells = [given, gives]
        names = [plain(cell).replace(",", " ").split() if "`" in cell else [] for cell in cells]
        found[plain(method)] = (names[0], names[1])
    return found


def _param_types() -> dict[str, str]:
    return {plain(name): kind for name, kind in PAGE.table("Methods", "param")}


def _params_of_the_code() -> set[str]:
    """The members of all tables of known params."""
    found: set[str] = set()
    for value in vars(requests).values():
        if isinstance(value, dict) and all(kind in (str, int, bool) for kind in value.values()):
            found |= set(value)
    return found


def test_the_page_has_every_method_and_no_other() -> None:
    assert set(_described()) == set(HANDLERS)


def test_every_method_has_a_section() -> None:
    for method in HANDLERS:
        assert "".join(PAGE.section(method)).strip(), method


def test_every_param_of_the_code_is_in_the_table_of_types() -> None:
    assert set(_param_types()) == _params_of_the_code()
    assert len(_param_types()) > 5


def _reason(house: House, method: str, given: dict[str, Any]) -> str:
    """The reason for which a request is refused; "" when it is not, or has none."""
    caller = house.caller()
    reply = house.call(caller, method, **given)
    caller.close()
    reason: str = reply.get("error", {}).get("data", {}).get("reason", "")
    return reason


@pytest.mark.parametrize("method", sorted(HANDLERS))
def test_a_method_knows_the_params_that_the_page_gives_it(house: House, method: str) -> None:
    given = [name.rstrip("?") for name in _described()[method][0]]
    for name in _params_of_the_code():
        known = _reason(house, method, {name: []}) != "unknown_member"
        assert known == (name in given), name


@pytest.mark.parametrize("method", sorted(HANDLERS))
def test_a_param_is_of_the_type_that_the_page_gives_it(house: House, method: str) -> None:
    kinds = {"string": "", "integer": 0, "true or false": False}
    for name in _described()[method][0]:
        name = name.rstrip("?")
        for kind, value in kinds.items():
            wrong = _reason(house, method, {name: value}) == "wrong_type"
            assert wrong == (kind != _param_types()[name]), (name, kind)


@pytest.mark.parametrize("method", sorted(HANDLERS))
def test_a_param_without_a_question_mark_is_needed(house: House, method: str) -> None:
    needed = [name for name in _described()[method][0] if not name.endswith("?")]
    assert (_reason(house, method, {}) == "missing_member") == bool(needed)
    given = {"name": "lab", "nonce": "1122334455667788", "udp": 40_000}
    assert set(needed) <= set(given), "this test knows of no other"
    whole = {name: given[name] for name in needed}
    assert _reason(house, method, whole) != "missing_member"
    for name in needed:
        less = {other: given[other] for other in needed if other != name}
        assert _reason(house, method, less) == "missing_member"


# -- results and notifications -------------------------------------------------------------------


# Members that not every directory tells, but these tests' servers do.
ALWAYS_HERE = {"relay"}


def _results(house: House) -> dict[str, dict[str, Any]]:
    """The result of each method, asked in an order in which all succeed."""
    given: dict[str, dict[str, Any]] = {
        "makeroom": {"name": "results"},
        "enter": {"name": "results"},
        "leave": {"name": "results"},
        "deleteroom": {"name": "results"},
    }
    nonce = "1122334455667788"
    given["probe"] = {"fresh": True, "nonce": nonce, "udp": 40_000}
    given["probed"] = {"nonce": nonce}
    given["history"] = {"name": "results"}
    caller = house.caller()
    order = sorted(HANDLERS, key=lambda method: [*given, method].index(method))
    found = {}
    for method in order:
        house.skip(1.1 if method == "probed" else 0)
        found[method] = house.call(caller, method, **given.get(method, {}))
    return found


def test_results_have_the_members_of_the_table(house: House) -> None:
    for method, reply in _results(house).items():
        gives = _described()[method][1]
        if method in ("stats", "probe", "probed"):  # they have tables of their own, see below
            continue
        if method == "history":  # nothing is kept here: tests/daemon/test_keeping.py
            assert reply["error"]["data"]["reason"] == "no_such_room"
            assert gives == ["count", "next"]
            continue
        always = {name for name in gives if not name.endswith("?")}
        assert set(reply["result"]) - ALWAYS_HERE == always, method


# Members of results in the table that come only sometimes.
SOMETIMES = {("makeroom", "token")}


def test_the_members_that_come_only_sometimes() -> None:
    optional = {
        (method, name.rstrip("?"))
        for method, (_, gives) in _described().items()
        for name in gives
        if name.endswith("?")
    }
    assert optional == SOMETIMES
    house = House("--delete", "owner", "--interface", "127.0.0.1")
    caller = house.caller()
    try:
        made = house.call(caller, "makeroom", name="lab")["result"]
        entered = house.call(caller, "enter", name="lab", sender="0102030405060708")["result"]
    finally:
        house.close()
    assert set(made) == {name.rstrip("?") for name in _described()["makeroom"][1]}
    of_the_relay = {plain(name) for name, _ in PAGE.table("enter", "member")}
    assert set(entered) == {*_described()["enter"][1], *of_the_relay}


def test_a_room_has_the_members_of_the_table() -> None:
    room = json.loads(protocol.room_json(protocol.RoomEntry("lab", "239.255.7.1", 5751), 0))
    kinds = {str: "string", int: "integer", bool: "true or false"}
    table = {plain(name): kind for name, kind, _ in PAGE.table("Room object", "member")}
    assert table == {name: kinds[type(value)] for name, value in room.items()}


def test_the_modes_are_those_of_the_code() -> None:
    assert tuple(plain(mode) for mode, _ in PAGE.table("Mode", "mode")) == protocol.MODES


def test_the_places_of_names_are_those_of_the_code() -> None:
    table = PAGE.table("A place that follows from the name", "folded name")
    assert len(table) == 2
    for name, number, four, six in table:
        for cell, ipv6 in ((four, False), (six, True)):
            places = list(places_of(plain(name), ipv6))
            assert place_of(*places[int(number)]) == plain(cell)
    assert f"k = 0, 1, ... {PLACES_OF_A_NAME - 1}" in PAGE.text


def test_the_protocol_has_the_number_of_the_code(house: House) -> None:
    number = house.call(house.caller(), "hello")["result"]["protocol"]
    assert f"The number in `hello` is {number}." in PAGE.text


def _calls() -> Iterator[tuple[str, list[ast.expr]]]:
    """Every call in the package: the last name of what is called, and its arguments."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.Call):
                name = _last_name(node.func)
                if name is not None:
                    yield name, node.args


def _last_name(node: ast.expr) -> str | None:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def test_the_page_has_every_notification_and_no_other() -> None:
    sent = set()
    for name, arguments in _calls():
        if name in ("_announce", "notification") and isinstance(arguments[0], ast.Constant):
            method = arguments[0].value
            assert isinstance(method, bytes)
            sent.add(method.decode())
    rows = PAGE.table("Notifications", "notification")
    assert {plain(row[0]) for row in rows} == sent
    assert len(sent) > 2
    for name in sent:
        assert PAGE.section(name), name


def test_notifications_have_the_members_of_the_table() -> None:
    rows = PAGE.table("Notifications", "notification")
    table = {plain(name): coded(given) for name, given, _ in rows}
    entry = protocol.RoomEntry("a", "b", 1)
    change = json.loads(protocol.change_body(1, protocol.room_json(entry, 0)))
    assert table["room_made"] == table["room_deleted"] == list(change)
    assert table["closing"] == list(json.loads(protocol.closing("why"))["params"])


# -- errors --------------------------------------------------------------------------------------


def _constants() -> dict[str, set[int]]:
    """Integers with a name of capitals at the top of a module, by that name."""
    found: dict[str, set[int]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                try:
                    value = ast.literal_eval(node.value)
                except ValueError:
                    continue
                if type(value) is int:
                    found.setdefault(node.targets[0].id, set()).add(value)
    return found


def _text(node: ast.expr) -> str | None:
    """The text that is written there, if it is one."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _members(node: ast.expr) -> dict[str, ast.expr]:
    """The members of an object that is written there, `{"room": name}`."""
    if not isinstance(node, ast.Dict):
        return {}
    pairs = both(node.keys, node.values)
    return {_text(key) or "": value for key, value in pairs if key is not None}


def _errors_of_the_code() -> dict[tuple[int, str], set[str]]:
    """(code, reason or "") -> further members of `data`.

    A code of the protocol is always written by its name; what a client refuses by itself, and
    never sends, has a bare number.
    """
    constants = _constants()
    found: dict[tuple[int, str], set[str]] = {}

    def note(code: ast.expr, reason: str, more: set[str]) -> None:
        name = _last_name(code)
        if name is not None and name.isupper():
            (value,) = constants[name]
            found.setdefault((value, reason), set()).update(more)

    for name, arguments in _calls():
        data = _members(arguments[-1]) if arguments else {}
        if name == "Refused" and len(arguments) > 1:
            reason = _text(arguments[1])
            if reason is not None:
                note(arguments[0], reason, set(data))
        elif name == "BadMessage":
            note(arguments[0], "", set())
        elif name == "error" and len(arguments) > 2:
            reason = _text(data["reason"]) if "reason" in data else ""
            note(arguments[1], reason or "", set(data) - {"reason"})
    return found


def test_the_page_has_every_error_and_no_other() -> None:
    table: dict[tuple[int, str], set[str]] = {}
    for code, reason, more, _ in PAGE.table("Errors", "code"):
        key = int(code), plain(reason)
        assert key not in table, f"{key} stands there twice"
        table[key] = set(coded(more))
    assert table == _errors_of_the_code()


def test_every_error_code_of_json_rpc_is_there() -> None:
    """The reader of the code above would find too few when calls look different one day."""
    codes = {code for code, _ in _errors_of_the_code()}
    assert codes == {-32700, -32600, -32601, -32602, -32603, *range(1, 9)}


def test_an_error_has_the_members_of_the_table() -> None:
    reply = json.loads(protocol.error(b"1", 1, "why", {"reason": "x"}))
    rows = PAGE.table("Errors", "member")
    assert [plain(name) for name, _, _ in rows] == list(reply["error"])


# -- values, limits, figures ---------------------------------------------------------------------


def test_the_folds_of_the_table() -> None:
    for name, folded in PAGE.table("Name", "name"):
        assert fold(plain(name)) == plain(folded)


def test_the_addresses_of_the_table() -> None:
    for given, shown in PAGE.table("Address and port", "given"):
        assert check_address(plain(given)) == plain(shown)


def _limits() -> dict[str, object]:
    """Every cap of the package by its name, wherever a module called `limits` has it."""
    found: dict[str, object] = {}
    for module in pkgutil.walk_packages(evloop.__path__, "evloop."):
        if module.name.rpartition(".")[2] == "limits":
            loaded: ModuleType = importlib.import_module(module.name)
            found.update((name, value) for name, value in vars(loaded).items() if name.isupper())
    return found


@pytest.mark.parametrize(("heading", "first"), [("Limits", "limit"), ("Times", "what")])
def test_a_limit_has_the_value_of_the_code(heading: str, first: str) -> None:
    limits = _limits()
    rows = PAGE.table(heading, first)
    assert len(rows) > 7
    for what, value, name in rows:
        assert float(value.replace(",", "")) == limits[coded(name)[0]], what


def test_the_advice_for_clients_is_what_our_own_does() -> None:
    limits = _limits()
    advice = " ".join(PAGE.section("Rules for a client"))
    for words, name in (
        ("allows {:g} s for each address", "CONNECT_S_MAX"),
        ("{:g} s for the reply to `hello`", "CONNECT_S_MAX"),
        ("again after {:g} s", "RECONNECT_S_MIN"),
        ("up to {:g} s", "RECONNECT_S_MAX"),
    ):
        assert words.format(limits[name]) in re.sub(r"\s+", " ", advice), name


def test_the_options_that_change_a_limit_exist() -> None:
    from evloop.daemon.options import parse_options

    for what, value, name in PAGE.table("Limits", "limit"):
        for option in coded(name)[1:]:
            changed = parse_options([option, "7"])
            default = parse_options([])
            attribute = option[2:].replace("-", "_")
            assert getattr(changed, attribute) == 7, what
            assert getattr(default, attribute) == int(value.replace(",", "")), what


def test_the_figures_of_stats() -> None:
    tables = PAGE.tables("stats")
    numbers, objects, lag = ({plain(row[0]) for row in rows} for _, *rows in tables)
    labelled = {name for name, (label, _) in COUNTERS.items() if label}
    assert numbers == set(COUNTERS) - labelled | set(GAUGES)
    assert objects == labelled
    figures = Metrics(dict).figures()
    assert isinstance(figures["lag"], dict)
    assert lag == set(figures["lag"])


def test_stats_give_what_the_tables_list(house: House) -> None:
    result = house.call(house.caller(), "stats")["result"]
    listed = {plain(row[0]) for _, *rows in PAGE.tables("stats")[:2] for row in rows}
    assert set(result) == listed | {"lag"}


def test_the_tables_of_a_probe(house: House) -> None:
    results = _results(house)
    (_, *rows), (_, *report), (_, *steps) = PAGE.tables("probe") + PAGE.tables("probed")
    assert {name for row in rows for name in coded(row[0])} == set(results["probe"]["result"])
    told = results["probed"]["result"]
    assert {plain(row[0]) for row in report} == set(told)
    assert {plain(row[0]) for row in steps} == set(told["ladder"]) == set(told["noise"])


def test_the_page_can_be_read_in_a_terminal() -> None:
    long = [line for line in PAGE.text.splitlines() if len(line) > COLUMNS_MAX]
    assert not long
