"""`--make-cert FILE`: a self-signed certificate, by the openssl program.

The standard library cannot make certificates. The program is started directly and not by a shell.
A file that exists is never replaced: it may be the certificate that clients have pinned.
"""

from __future__ import annotations

import os
import socket
import sys

from evloop.base.errors import FAILED
from evloop.daemon.limits import CERT_ADDRESSES_MAX
from evloop.system.child import heed_children
from evloop.system.process import print_out

_DAYS = "3650"


def own_addresses() -> list[str]:
    """The addresses by which clients may reach this machine, without those of one link only."""
    from evloop.net.compat import addresses

    there = [entry.address for entry in addresses() if entry.address and not entry.scope]
    return list(dict.fromkeys([*there, "127.0.0.1", "::1"]))[:CERT_ADDRESSES_MAX]


def openssl_command(cert: str, key: str, host: str, addresses: list[str]) -> list[str]:
    """The command that makes `cert` and `key` for a machine called `host`."""
    reached = "".join(f",IP:{address}" for address in addresses)
    names = f"subjectAltName=DNS:{host},DNS:localhost{reached}"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    # It signs itself, so it is an authority; strict readers want that said (RFC 5280, 4.2.1.3).
    usage = "keyUsage=critical,digitalSignature,keyCertSign"
    subject = ("-subj", f"/CN={host}", "-addext", names, "-addext", usage)
    files = ("-keyout", key, "-out", cert)
    return ["openssl", "req", "-x509", *kind, "-days", _DAYS, *subject, *files]


def make_certificate(cert: str) -> int:
    """Make `cert` and its key beside it, and say what to do with them; return the exit status."""
    key = f"{cert}.key"
    host = "".join(c for c in socket.gethostname() if c.isascii() and (c.isalnum() or c in "-."))
    host = host[:63] or "localhost"
    addresses = own_addresses()
    command = openssl_command(cert, key, host, addresses)
    for path in (cert, key):
        if os.path.lexists(path):
            sys.stderr.write(f"evloop: cannot make a certificate: {path} exists already\n")
            return FAILED
    heed_children()
    before = os.umask(0o077)
    try:
        process = os.posix_spawnp("openssl", command, os.environ)
        _, status = os.waitpid(process, 0)
    except OSError as error:
        sys.stderr.write(
            f"evloop: cannot run openssl: {error.strerror}; this is what makes a certificate,"
            f" here or on another machine:\n  {' '.join(command)}\n"
        )
        return FAILED
    finally:
        os.umask(before)
    if status:
        sys.stderr.write(f"evloop: openssl failed; the command was:\n  {' '.join(command)}\n")
        return FAILED
    os.chmod(cert, 0o644)  # it is no secret: clients may name it with --tls-ca
    print_out(
        f"made {cert} and its key {key}, good for ten years, for {host}, localhost and"
        f" {', '.join(addresses)}; start the server with\n"
        f"  --tls-cert {cert} --tls-key {key}\n"
        f"Clients: --tls (trust on first use), or --tls-ca with a copy of {cert}\n"
    )
    return 0
