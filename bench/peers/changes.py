"""The floor of durable changes: sqlite alone, which answers nobody.

changes.py FILE GROUP SECONDS: as many rows of a room's size as fit the time, GROUP in each commit.
Prints changes per second.
"""

from __future__ import annotations

import sqlite3
import sys
import time

BODY = "x" * 100  # about what a room has besides its name
INSERT = "INSERT INTO room VALUES (?, ?)"


def main() -> None:
    group, seconds = int(sys.argv[2]), float(sys.argv[3])
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE room (name TEXT PRIMARY KEY, body TEXT)")
    begin = time.perf_counter()
    commits = 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        connection.execute("BEGIN IMMEDIATE")
        for change in range(group):
            connection.execute(INSERT, (f"r{commits}-{change}", BODY))
        connection.execute("COMMIT")
        commits += 1
    connection.close()
    print(commits * group / elapsed)


if __name__ == "__main__":
    main()
