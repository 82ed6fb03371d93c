"""Build evloop.pyz: all of evloop in one file that Python runs: `python3 -m tools.pyz [FILE]`.

A zip archive with a line in front that names the interpreter. It holds the sources and, beside
each, its bytecode for the Python that builds it, without which every start would compile them.
Another version of Python finds that the bytecode is not its own, and takes the sources.

The same sources and the same Python give the same bytes, whoever builds them where: names sorted,
no dates, nothing compressed (what a compressor makes differs from version to version), and the
bytecode made in an interpreter that has loaded nothing else. (marshal notes which objects are used
more than once, and a name that any loaded module uses too is such an object.)
"""

from __future__ import annotations

import importlib.util
import io
import marshal
import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST_LINE = b"#!/usr/bin/env python3\n"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first date that a zip archive can tell
UNCHECKED_HASH = (0b01).to_bytes(4, "little")  # PEP 552: valid whatever the date of the source

# marshal in: [(name, source)], marshal out: [bytecode]
COMPILE = """
import marshal, sys
marshal.dump(
    [
        marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=0))
        for name, source in marshal.load(sys.stdin.buffer)
    ],
    sys.stdout.buffer,
)
"""


def sources(root: Path = ROOT) -> dict[str, bytes]:
    """Name in the archive -> bytes, of all that is not made here."""
    modules = sorted((root / "evloop").rglob("*.py"))
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in modules}
    found["__main__.py"] = (root / "tools" / "pyz_main.py").read_bytes()
    found["LICENSE"] = (root / "LICENSE").read_bytes()
    return found


def bytecode(texts: dict[str, bytes]) -> dict[str, bytes]:
    """Name of the .pyc -> its bytes, for each .py of `texts`."""
    names = sorted(name for name in texts if name.endswith(".py"))
    done = subprocess.run(
        [sys.executable, "-s", "-S", "-X", "utf8", "-c", COMPILE],
        input=marshal.dumps([(name, texts[name]) for name in names]),
        env={"LC_ALL": "C.UTF-8", "PATH": os.defpath, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        check=True,
    )
    made = zip(names, marshal.loads(done.stdout))
    return {
        f"{name}c": importlib.util.MAGIC_NUMBER
        + UNCHECKED_HASH
        + importlib.util.source_hash(texts[name])
        + code
        for name, code in made
    }


def archive(root: Path = ROOT) -> bytes:
    """The whole file."""
    texts = sources(root)
    files = {**texts, **bytecode(texts)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, LONG_AGO)
            info.create_system = 3  # Unix, wherever it is built
            info.external_attr = 0o100644 << 16
            zipped.writestr(info, files[name])
    return FIRST_LINE + buffer.getvalue()


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "evloop.pyz")
    made = target.with_name(f"{target.name}.new")
    made.write_bytes(archive())
    made.chmod(0o755)
    made.replace(target)  # who runs the old one keeps it
    print(f"{target}: {target.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
