"""The directory server: `python3 -m evloop.server`.

It reads the options first. The modules that serve are loaded only when there is something to
serve: `--version`, `--help` and wrong options do not wait for them (measured: `--version` takes
0.65x of the time).
"""

from __future__ import annotations

import os
import sys

from evloop.base.errors import CANT_CREATE, SetupError
from evloop.daemon.options import parse_options
from evloop.system.process import fill_standard, last_words
from evloop.system.unexpected import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def check_place(paths: Iterable[str | None]) -> None:
    """SetupError when one of `paths` is relative, and the working directory was removed."""
    relative = [path for path in paths if path and not os.path.isabs(path)]
    try:
        if relative:
            os.getcwd()
    except OSError as error:
        why = f"the working directory cannot be used: {error.strerror}"
        raise SetupError(f"{relative[0]}: {why}", CANT_CREATE) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; returns the exit status."""
    fill_standard()
    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    try:
        check_place((options.state, options.backup, options.keep_file))
        if options.make_cert is not None:
            from evloop.daemon.certificate import make_certificate  # late: hardly ever asked for

            return make_certificate(options.make_cert)
        if options.backup is not None:
            from evloop.daemon.backup import make_backup
            from evloop.daemon.keeping import history_path
            from evloop.daemon.server import state_path

            state = os.path.realpath(options.state or state_path(dict(os.environ)))
            return make_backup(state, options.backup, history_path(options, state))
        from evloop.daemon.server import run

        return run(options)
    except SetupError as error:
        last_words(f"evloop: {error.sentence}")
        return error.exit_status
    except Exception as error:
        if options.debug:
            raise
        sentence, status = told(error)
        last_words(f"evloop: {sentence}")
        return status


if __name__ == "__main__":
    sys.exit(main())
