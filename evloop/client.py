"""The chat client: `python3 -m evloop.client`.

It reads the options, makes the loop and the client (`shell`), and starts it (`startup`). The
modules for chatting are loaded once the options ask for it: `--version` and wrong options do not
wait for them (measured: `--version` takes 0.6x of the time).
"""

from __future__ import annotations

import os
import sys

from evloop.app.options import VERSION, parse_options
from evloop.base.errors import HUNG_UP, INTERRUPTED, TERMINATED, EvloopError
from evloop.system.process import answer_version, fill_standard, last_words, name_of
from evloop.system.unexpected import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence

    from evloop.app.shell import Client


def run(options: Namespace, prepare: Callable[[Client], object]) -> int:
    """Chat until told to stop; return the exit status."""
    import gc
    import signal
    import time
    from functools import partial

    # The modules loaded now stay in memory: a collection of cycles would only delay the prompt.
    gc.disable()

    from evloop.app.shell import Client
    from evloop.app.startup import ONE_SHOTS, start
    from evloop.net.hub import Hub
    from evloop.system.loop import Loop

    signals = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED, signal.SIGHUP: HUNG_UP}
    loop = Loop()
    hub = Hub(loop)
    loop.before_sleep(hub.flush)
    client = Client(loop, options, hub, time.time)
    loop.on_error = client.fault
    ONE_SHOTS["irc"] = _irc
    try:
        for signum, status in signals.items():
            loop.on_signal(signum, partial(client.signalled, status))
        prepare(client)
        start(client)
        gc.enable()
        loop.run()
    except EvloopError as error:
        client.failed("", error)
        client.status = client.status or error.exit_status
    finally:
        gc.enable()
        client.on_end()
        client.frontend.close()
        loop.close()
    return client.status


def _irc(client: Client, word: str, arguments: list[str], options: dict[str, str]) -> None:
    from evloop.irc.door import command  # late: nobody else needs what it loads

    command(client, word, arguments, options)


def run_main(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    prepare: Callable[[Client], object],
    program: str,
) -> int:
    """The program around `run`: returns the exit status; `--debug` alone shows a traceback."""
    fill_standard()
    answer_version(arguments, VERSION)
    try:
        from evloop.terminal.frontend import is_tty  # late, see above

        return run(parse_options(arguments, environ, is_tty(), program), prepare)
    except EvloopError as error:
        last_words(f"evloop: {error}")
        return error.exit_status
    except Exception as error:
        if "--debug" in arguments:
            raise
        sentence, status = told(error)
        last_words(f"evloop: {sentence}")
        return status


def _as_it_is(client: Client) -> None:
    """Nothing to prepare."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return run_main(arguments, os.environ, _as_it_is, name_of("client"))


if __name__ == "__main__":
    sys.exit(main())
