"""Certificates for tests: files of the repository, made by the script beside them."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

CERTIFICATES = Path(__file__).with_name("certificates")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def openssl(*arguments: str) -> str:
    """What the program prints; skips the test where it is not there."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    run = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def trusting(ca: str) -> ssl.SSLContext:
    """How a client trusts the authority in the file `ca`. As strict as before Python 3.13, which
    wants of an authority what ours (made as people make theirs) does not say."""
    context = ssl.create_default_context(cafile=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class Files:
    """Paths of PEM files: an authority, and what it signed; and strangers.

    They are copies in `folder`, so that a test may change them, with keys that only we may read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.ca_key = self._copy("ca")
        self.cert, self.key = self._copy("server")
        self.client_cert, self.client_key = self._copy("client")
        self.expired_cert, self.expired_key = self._copy("expired")
        self.foreign_cert, self.foreign_key = self._copy("foreign")  # for another name
        self.other_cert, self.other_key = self._copy("other")  # another authority

    def _copy(self, name: str) -> tuple[str, str]:
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        for path in (cert, key):
            path.write_bytes((CERTIFICATES / path.name).read_bytes())
        key.chmod(0o600)
        return str(cert), str(key)
