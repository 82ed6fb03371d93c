"""Two directories relay one room: on one link, where both have a leg in its group, and at two
sites, whose bridge joins the groups."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.lab.network import Namespace, Network, flat, missing
from tests.lab.talk import Person, conversation, flaws, gather, settled, type_at
from tests.lab.test_roads import GROUP, House, deafen, mute, road
from tests.lab.test_sites import World
from tests.support.processes import Crew

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "the lab is here"),
    pytest.mark.slow,
    pytest.mark.timeout(700),
]
TALK_S = 40.0
PER_S = 3.0
MORE = 1.2  # packets at a member of the group with two directories, against those with one
NO_SITES = missing("etcd", "nats-server")


def count(host: Namespace) -> None:
    """From now on, what comes to the room's group is counted."""
    rules = f"ip daddr {GROUP} counter"
    chain = f"chain input {{ type filter hook input priority 2; {rules}; }}"
    host.run("nft", "-f", "-", text=f"table inet counted {{ {chain}; }}\n")


def counted(host: Namespace) -> int:
    found = re.search(r"counter packets (\d+)", host.run("nft", "list", "table", "inet", "counted"))
    assert found is not None
    return int(found[1])


def packets(crew: Crew, directories: int) -> int:
    """A talk of two guests that only a directory hears, and two others: how many packets came to
    one of these. The guests are at one directory, or at one each."""
    with flat(6) as lab:
        houses = [House(lab, crew, host=number) for number in range(1, directories + 1)]
        house = houses[0]
        for number in (3, 4):
            deafen(lab.hosts[number - 1])
            mute(lab.hosts[number - 1])
        for number, name in enumerate(("guest", "other", "sound", "well"), 3):
            at = houses[-1] if name in ("other", "well") else house
            person = at.enter(number, name)
            if at is not house:
                house.people.append(person)
        house.entered()
        house.talk(100, PER_S, seed=1)  # until each is on its road
        roads = {"guest": "full", "other": "full", "sound": "off", "well": "off"}
        house.find(roads, seed=3)
        house.everywhere(house.typed)
        count(lab.hosts[4])
        house.talk(int(TALK_S * PER_S), PER_S, seed=2)
        house.everywhere(house.typed)
        found = counted(lab.hosts[4])
        assert [road(one) for one in house.people[:2]] == ["full", "full"]
        for one in (*(it.program for it in house.people), *(it.server for it in houses)):
            one.process.kill()
            crew.finish(one)
        return found


def test_two_directories_on_one_link_cost_a_member_of_the_group_no_more(crew: Crew) -> None:
    """All screens are equal, and nothing goes from one leg to the other and back."""
    one, two = packets(crew, 1), packets(crew, 2)
    assert two <= MORE * one, f"{two} packets with two directories, {one} with one"


@pytest.mark.skipif(bool(NO_SITES), reason=NO_SITES or "the lab is here")
def test_relayed_members_of_two_sites_whom_the_bridge_joins() -> None:
    """At each site one hears the group and one is carried by the site's directory: what a guest of
    one site says goes by its relay, the group, the bridge, the other group and the other relay."""
    with Network() as network, Crew() as crew:
        world = World(crew, network, hosts=3)
        try:
            near = world.sites[0]
            made = crew.client("makeroom", "lab", server=near.at(0), prefix=near.hosts[1].prefix)
            crew.until(lambda: made.done)
            assert made.status == 0, made.tell()
            for site in world.sites:
                deafen(site.hosts[2])
                mute(site.hosts[2])
            seats = (("ann", 0, 1), ("guest", 0, 2), ("cy", 1, 1), ("other", 1, 2))
            people = [world.person(*seat) for seat in seats]
            gather(crew, people, 60)
            typed = talk(crew, people, 60, seed=3)
            assert settled(crew, people, len(typed), 90), flaws(people, typed)
            assert flaws(people, typed) == []
            roads = {one.name: [it["road"] for it in one.objects("road")][-1:] for one in people}
            assert roads["guest"] == roads["other"] == ["full"]

            # The line between the sites is cut: each goes on by itself, and heals.
            world.nats.process.kill()
            crew.until(
                lambda: all("the bridge carries nothing" in it.err for it in world.servers), 60
            )
            typed += talk(crew, people, 20, seed=4, first=15)
            world.start_nats()
            world.bridged(2)
            assert settled(crew, people, len(typed), 90), flaws(people, typed)
            assert flaws(people, typed) == []
        finally:
            shutil.rmtree(world.folder, ignore_errors=True)


def talk(crew: Crew, people: list[Person], messages: int, seed: int, first: int = 0) -> list[str]:
    """What is typed; each person's numbers begin with `first`."""
    schedule = [
        (when, one, f"{one.name} {first + int(text.split()[1])}")
        for when, one, text in conversation(people, messages, PER_S, seed)
    ]
    type_at(crew, schedule)
    return [text for _, _, text in schedule]
