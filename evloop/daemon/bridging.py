"""Puts the bridge between sites together: the options, NATS, and what the cluster says.

Everything is read from the cluster's keys, which all servers follow: see `daemon.bridge`.
"""

from __future__ import annotations

import os
import random

from evloop import __version__
from evloop.base.addresses import split_endpoint
from evloop.daemon.bridge import DROPS, Bridge, Sites
from evloop.daemon.cluster import engine_tls, secret_line
from evloop.net.interfaces import choose_interface
from evloop.net.nats import NatsLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from evloop.daemon.cluster import Cluster
    from evloop.daemon.metrics import Metrics
    from evloop.net.interfaces import Interface
    from evloop.system.log import Log
    from evloop.system.loop import Loop

NATS_PORT = 4222


def bridge_of(
    loop: Loop, log: Log, options: Namespace, cluster: Cluster, metrics: Metrics
) -> Bridge:
    """The bridge that --bridge asks for; SetupError when a file cannot be used."""
    context = engine_tls("--bridge-ca", options.bridge_ca, options.bridge_cert, options.bridge_key)
    fields = {"name": f"evloop {cluster.replica.server}", "lang": "python", "version": __version__}
    fields.update(_credentials(options))
    if context is None and options.bridge_password_file is not None:
        log.warning("the password for NATS can be overheard: --bridge-ca encrypts it")
    servers = [split_endpoint(text, NATS_PORT) for text in options.bridge.split(",")]
    rng = random.Random(os.urandom(16))
    link = NatsLink(loop, servers, fields, context, rng)

    def choose(address: str) -> Interface:
        return choose_interface(address, options.interface, None)

    bridge = Bridge(
        loop,
        log,
        link,
        (options.directory, cluster.replica.server, options.site),
        lambda: _sites(cluster),
        cluster.set_bridge,
        choose,
        options.ttl,
        metrics.kinds("bridge_dropped", DROPS),
    )
    cluster.changed = bridge.changed
    return bridge


def _sites(cluster: Cluster) -> Sites:
    """Who is where, now; our own numbers are those that the others read, a moment later."""
    census, directory = cluster.replica.census, cluster.dispatcher.directory
    own = census.own
    members = {**census.counts, cluster.replica.server: own}
    places = {}
    for fold in own:  # a room without a member here is never carried by us
        room = directory.get(fold)
        if room is not None:
            places[fold] = (room.address, room.port)
    return Sites(census.servers, members, places)


def _credentials(options: Namespace) -> dict[str, Any]:
    """Who we are for NATS: a user and a password, or a token alone; SetupError."""
    if options.bridge_password_file is None:
        return {}
    secret = secret_line(options.bridge_password_file)
    if options.bridge_user is None:
        return {"auth_token": secret}
    return {"user": options.bridge_user, "pass": secret}
