"""A certificate authority and the control plane's certificates, made by openssl for one cluster and kept in its folder."""

import base64
from collections.abc import Sequence
from pathlib import Path

import yaml
from e2e.cluster.run import run

DAYS = "30"


class Authority:
    """The certificate authority in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self.certificate = folder / "ca.crt"
        if not self.certificate.exists():
            self._request("ca", "/CN=serinus-ca", "-x509", "-days", DAYS)

    def issue(self, name: str, subject: str, addresses: Sequence[str] = ()) -> tuple[Path, Path]:
        """Return a certificate and its key. `addresses` are subject alternative names, as "DNS:…" or "IP:…"."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        extensions = self.folder / f"{name}.ext"
        names = f"subjectAltName={','.join(addresses)}\n" if addresses else ""
        extensions.write_text(f"keyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n{names}")
        request = self._request(name, subject)
        run(
            [
                "openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.folder / "ca.key",
                "-CAcreateserial", "-days", DAYS, "-extfile", extensions, "-out", certificate,
            ]
        )  # fmt: skip
        return certificate, key

    def kubeconfig(self, target: Path, server: str, name: str, subject: str) -> Path:
        """Write a kubeconfig for a client with this subject, readable by its owner alone."""
        certificate, key = self.issue(name, subject)
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "serinus",
                    "cluster": {"server": server, "certificate-authority-data": _data(self.certificate)},
                }
            ],
            "users": [{"name": name, "user": {"client-certificate-data": _data(certificate), "client-key-data": _data(key)}}],
            "contexts": [{"name": "serinus", "context": {"cluster": "serinus", "user": name}}],
            "current-context": "serinus",
        }
        target.touch(0o600)
        target.write_text(yaml.safe_dump(content))
        return target

    def signing_key(self, name: str) -> Path:
        """Return a private key for signing tokens."""
        key = self.folder / f"{name}.key"
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key])
        return key

    def _request(self, name: str, subject: str, *more: str) -> Path:
        result = self.folder / (f"{name}.crt" if "-x509" in more else f"{name}.csr")
        run(
            [
                "openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
                "-keyout", self.folder / f"{name}.key", "-out", result, *more,
            ]
        )  # fmt: skip
        return result


def _data(file: Path) -> str:
    return base64.b64encode(file.read_bytes()).decode()
