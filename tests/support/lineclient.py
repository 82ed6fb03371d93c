"""A program that only edits lines, for real terminals: `python -m tests.support.lineclient`.

Typed lines appear above the prompt as `Mel: ...`. Options:

    --say N --every S   bob says N lines, one every S seconds
    --slow              measure the terminal from the start
    --blocking          as if the terminal could not be opened again
    --beat FILE         append a dot every 0.1 s: a heart beat that a frozen terminal must not stop

/crash raises, /hang never returns, /quit or Ctrl-D ends.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

from evloop.system import stdout
from evloop.system.limits import FOREGROUND_POLL_S
from evloop.system.loop import Loop
from evloop.terminal.editor import Editor
from evloop.terminal.limits import BAUD_SLOW
from evloop.terminal.tty import (
    Tty,
    charset_of,
    is_smart,
)

INF = float("inf")


class LineClient:
    def __init__(self, options: argparse.Namespace) -> None:
        self.loop = Loop()
        self.options = options
        if options.blocking:
            stdout.terminal_again = lambda fd: None
        self.terminal = Tty()
        self.editor = Editor(
            *self.terminal.size(),
            prompt="lab> ",
            charset=charset_of(os.environ),
            slow=options.slow or self.terminal.baud < BAUD_SLOW,
        )
        self.background = False
        self.expected = False  # a SIGCONT is on its way that we know of
        self.said = 0
        self.status = 0
        terminal = self.terminal
        self.watch = self.loop.watch(terminal, self.on_read, self.on_write, terminal.close)
        self.timer = self.loop.call_at(INF, self.on_timer)
        self.poll = self.loop.call_at(INF, self.come_back)
        self.egress = self.loop.call_at(self.loop.now if options.say else INF, self.say)
        self.heart = self.loop.call_at(self.loop.now if options.beat else INF, self.beat)
        self.loop.before_sleep(self.draw)
        for number in (signal.SIGTERM, signal.SIGHUP):
            self.loop.on_signal(number, self.stop)
        self.loop.on_signal(signal.SIGWINCH, self.resize)
        self.loop.on_signal(signal.SIGCONT, self.continued)

    def run(self) -> int:
        self.come_back()
        try:
            self.loop.run()
        finally:
            self.editor.hide()
            if self.terminal.raw:
                self.terminal.write(self.editor.take(self.loop.now))
            self.watch.close()
            self.loop.close()
        return self.status

    def stop(self) -> None:
        self.status = 143
        self.loop.stop()

    def on_read(self) -> None:
        data = self.terminal.read()
        if data == b"":
            self.loop.stop()
        elif data:
            self.handle(self.editor.feed(data, self.loop.now))

    def on_write(self) -> None:
        self.terminal.flush()

    def on_timer(self) -> None:
        self.handle(self.editor.handle_timer(self.loop.now))

    def handle(self, events: object) -> None:
        for event in events:  # type: ignore[attr-defined]
            if event[0] == "line":
                self.line(event[1])
            elif event[0] == "suspend":
                self.editor.hide()
                self.terminal.write(self.editor.take(self.loop.now))
                self.expected = True
                self.terminal.suspend()
                self.come_back()
            elif event[0] == "hint":
                self.editor.above(event[1], urgent=True)
            elif event[0] in ("eof", "interrupt", "leave"):
                self.loop.stop()

    def line(self, text: str) -> None:
        if text == "/crash":
            raise ZeroDivisionError("as asked")
        while text == "/hang":
            pass
        if text == "/quit":
            self.loop.stop()
        self.editor.above("Mel: " + text, 5)

    def continued(self) -> None:
        """SIGCONT came: expected after our own `suspend`, unexpected after a SIGSTOP."""
        if self.expected:
            self.expected = False
        else:
            self.come_back()

    def come_back(self) -> None:
        self.background = not self.terminal.resume()
        self.watch.want_read(not self.background)
        self.poll.move(self.loop.now + FOREGROUND_POLL_S if self.background else INF)
        if not self.background:
            self.resize()
            self.editor.show()

    def resize(self) -> None:
        self.editor.resize(*self.terminal.size())

    def say(self) -> None:
        self.said += 1
        self.editor.above(f"bob: line {self.said} " + "x" * 40)
        if self.said < self.options.say:
            self.egress.move(self.loop.now + self.options.every)

    def beat(self) -> None:
        with open(self.options.beat, "a") as file:
            file.write(".")
        self.heart.move(self.loop.now + 0.1)

    def draw(self) -> None:
        drawing = not self.terminal.pending and not self.background
        if drawing:
            data = self.editor.take(self.loop.now)
            if data:
                self.terminal.write(data)
            if self.terminal.refused:
                self.editor.slow()
            drawing = not self.terminal.pending
        self.watch.want_write(self.terminal.pending)
        self.timer.move(self.editor.next_deadline(drawing))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--say", type=int, default=0)
    parser.add_argument("--every", type=float, default=0.001)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--blocking", action="store_true")
    parser.add_argument("--beat", default="")
    options = parser.parse_args()
    if not is_smart(os.environ, 0, 1):
        print("not a terminal", file=sys.stderr)
        return 2
    return LineClient(options).run()


if __name__ == "__main__":
    sys.exit(main())
