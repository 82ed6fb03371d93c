"""The `__main__` of evloop.pyz: which program is meant, and with which words.

`python3 evloop.pyz client ...` is evloop.client, `python3 evloop.pyz server ...` evloop.server, all
else is `python3 -m evloop`. A copy or a link that is called evloop-client or evloop-server is that
program.

In words that old interpreters read too, which `evloop` then tells that they are too old.
"""

import sys

import evloop  # noqa: F401  (before all else: it ends an interpreter that is too old)

PROGRAMS = ("client", "server")


def main():
    # type: () -> int
    name = sys.argv[0].rpartition("/")[2].partition(".")[0]
    words = sys.argv[1:]
    program = name[len("evloop-") :] if name.startswith("evloop-") else ""
    if program not in PROGRAMS:
        program = words.pop(0) if words and words[0] in PROGRAMS else ""
    # Late: only the program that is meant, for the sake of the time that the start takes.
    if program == "server":
        from evloop.server import main as server

        return server(words)
    if program == "client":
        from evloop.client import main as client

        return client(words)
    from evloop.__main__ import main as both

    return both(words)


if __name__ == "__main__":
    sys.exit(main())
