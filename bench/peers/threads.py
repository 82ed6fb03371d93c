"""The peer on socketserver with a thread for each connection."""

from __future__ import annotations

import socketserver
import threading

from bench.peers.rpc import PAYLOAD_MAX, say_listening, service_from_arguments

service = service_from_arguments()


class Connection(socketserver.StreamRequestHandler):
    """One client, on its own thread; `rfile` is buffered, `wfile` sends at once."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        read, write, reply_to = self.rfile.read, self.wfile.write, service.reply_to
        try:
            while len(header := read(4)) == 4:
                length = int.from_bytes(header, "big")
                if length > PAYLOAD_MAX or len(payload := read(length)) != length:
                    break
                write(reply_to(payload))
        except ConnectionError:
            pass  # the client has gone, which ends its thread and nothing else


class Server(socketserver.ThreadingTCPServer):
    """Daemon threads, and a backlog that a storm of connections fits."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 4096


if __name__ == "__main__":
    threading.stack_size(256 * 1024)
    with Server(("127.0.0.1", 0), Connection) as server:
        say_listening(server.server_address[1])
        server.serve_forever()
