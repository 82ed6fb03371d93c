"""Certificates for tests, made once a session by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*arguments: str) -> str:
    run = subprocess.run(("openssl", *arguments), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


class Files:
    """Paths of PEM files: an authority, and what it signed; and strangers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.ca_key = self._self_signed("ca")
        self.cert, self.key = self._signed("server")
        self.client_cert, self.client_key = self._signed("client")
        self.expired_cert, self.expired_key = self._signed("expired", days="-1")
        self.other_cert, self.other_key = self._self_signed("other")

    def _self_signed(self, name: str) -> tuple[str, str]:
        cert, key = str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")
        subject = ("-subj", f"/CN={name}", "-addext", _NAMES)
        openssl("req", "-x509", *_KEY, "-days", "30", *subject, "-keyout", key, "-out", cert)
        return cert, key

    def _signed(self, name: str, days: str = "30") -> tuple[str, str]:
        cert, key = str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")
        request = str(self.folder / f"{name}.csr")
        subject = ("-subj", f"/CN={name}", "-addext", _NAMES)
        openssl("req", *_KEY, *subject, "-keyout", key, "-out", request)
        by = ("-CA", self.ca, "-CAkey", self.ca_key, "-copy_extensions", "copy")
        openssl("x509", "-req", "-in", request, *by, "-days", days, "-out", cert)
        return cert, key
