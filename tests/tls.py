"""A throw-away certificate authority, so that the forge can answer https under the real names of hosts."""

import ssl
import subprocess
from pathlib import Path

HOSTS = (
    "localhost",
    "github.com",
    "*.github.com",
    "*.githubusercontent.com",
    "gitlab.com",
    "example.org",
    "*.example.org",
)
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """An authority and one certificate by it, for all of :data:`HOSTS`; nobody trusts it who is not told to."""

    def __init__(self, folder: Path) -> None:
        """Make them in ``folder``, with the openssl program."""
        self.bundle = folder / "ca.pem"
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        names = folder / "extensions"
        names.write_text(
            "basicConstraints = critical, CA:FALSE\n"
            "subjectKeyIdentifier = hash\n"
            "authorityKeyIdentifier = keyid\n"
            f"subjectAltName = {', '.join(f'DNS:{host}' for host in HOSTS)}\n"
        )
        _openssl(
            "req", "-x509", *_EC, "-days", "2", "-subj", "/CN=an authority", "-keyout", folder / "ca.key",
            "-out", self.bundle, "-addext", "keyUsage = critical, keyCertSign, cRLSign",
        )  # fmt: skip
        _openssl("req", *_EC, "-subj", "/CN=a forge", "-keyout", self.key, "-out", folder / "request.pem")
        _openssl(
            "x509", "-req", "-days", "2", "-in", folder / "request.pem", "-CA", self.bundle, "-CAkey",
            folder / "ca.key", "-CAcreateserial", "-extfile", names, "-out", self.certificate,
        )  # fmt: skip

    @property
    def context(self) -> ssl.SSLContext:
        """What a server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
