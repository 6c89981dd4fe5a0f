"""Makes what proves who is who: a certificate authority, a server certificate, node keys.

A coordinator shows a certificate of the authority; a node signs with a P-384 key whose public half
the coordinator holds (https://flower.ai/docs/framework/how-to-authenticate-supernodes.html).
"""

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, count
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.deployment.node_keys import (
    PUBLIC_SUFFIX,
    REVOKED_SUFFIX,
    NodeKeys,
    read_public_key,
)

AUTHORITY_VALID: Final = timedelta(days=10 * 365)
SERVER_VALID: Final = timedelta(days=365)
BACKDATED: Final = timedelta(hours=1)
"""Clocks of other organisations may be behind."""
PRIVATE_SUFFIX: Final = ".key"


@dataclass(frozen=True, slots=True)
class CertificateFolder:
    """Where one command puts everything; private files are readable by their owner alone."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The authority's certificate, which every node needs."""
        return self.folder / "ca.crt"

    @property
    def authority_key(self) -> Path:
        """Signs server certificates; nobody but `waypost federation certificates` needs it."""
        return self.folder / "ca.key"

    @property
    def server(self) -> Path:
        """The coordinator's certificate."""
        return self.folder / "server.crt"

    @property
    def server_key(self) -> Path:
        """The coordinator's private key."""
        return self.folder / "server.key"

    @property
    def public_keys(self) -> Path:
        """The folder of the nodes that the coordinator lets in."""
        return self.folder / "nodes"

    @property
    def private_keys(self) -> Path:
        """The nodes' own keys, each to be handed to its organisation and deleted here."""
        return self.folder / "node-keys"

    def issue_server(self, hosts: Iterable[str], now: datetime) -> list[Path]:
        """Issue the coordinator a certificate for `hosts`, making the authority if there is none.

        Returns:
            The files written.
        """
        written = [] if self.authority_key.exists() else self._make_authority(now)
        authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        authority_key = _load_key(self.authority_key)
        key = ec.generate_private_key(ec.SECP384R1())
        names = [_general_name(host) for host in hosts]
        certificate = (
            _builder("Waypost coordinator", key.public_key(), now, SERVER_VALID)
            .issuer_name(authority.subject)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .sign(authority_key, hashes.SHA384())
        )
        write_private(self.server_key, _private_pem(key))
        _write_public(self.server, certificate.public_bytes(serialization.Encoding.PEM))
        return [*written, self.server, self.server_key]

    def make_node_key(self, name: str) -> list[Path]:
        """Make the key pair of node `name`; one that exists is left alone.

        Returns:
            The files written.
        """
        private = self.private_keys / f"{name}{PRIVATE_SUFFIX}"
        if private.exists():
            return []
        return self._write_node_key(name)

    def revoke(self, name: str) -> list[Path]:
        """Shut a node out, and every other name that its key was let in by.

        The files stay, under names that let nobody in.

        Returns:
            What the files are called now.

        Raises:
            FileNotFoundError: No such node is let in.
        """
        keys = NodeKeys.read(self.public_keys).keys
        same = {name, *(other for other, key in keys.items() if key == keys.get(name))}
        paths = [self.public_keys / f"{each}{PUBLIC_SUFFIX}" for each in sorted(same)]
        return [path.rename(_revoked_name(path)) for path in paths]

    def rotate(self, name: str, public: Path | None = None) -> list[Path]:
        """Let node `name` in by another key, and by its old one no more.

        Args:
            name: Of a node that is let in now, or that was revoked.
            public: Its new public key; None makes a new pair.

        Returns:
            The files written.

        Raises:
            FileNotFoundError: No such node is let in or was revoked.
            ValueError: `public` is no key.
        """
        new = None if public is None else public.read_bytes()
        if public is not None:
            read_public_key(public)
        path = self.public_keys / f"{name}{PUBLIC_SUFFIX}"
        if path.exists() or not path.with_name(f"{path.name}{REVOKED_SUFFIX}").exists():
            self.revoke(name)
        if new is None:
            return self._write_node_key(name)
        _write_public(path, new)
        return [path]

    def _write_node_key(self, name: str) -> list[Path]:
        private = self.private_keys / f"{name}{PRIVATE_SUFFIX}"
        key = ec.generate_private_key(ec.SECP384R1())
        write_private(
            private,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
        )
        public = self.public_keys / f"{name}{PUBLIC_SUFFIX}"
        openssh = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        _write_public(public, openssh + f" {name}\n".encode())
        return [private, public]

    def _make_authority(self, now: datetime) -> list[Path]:
        key = ec.generate_private_key(ec.SECP384R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Waypost federation")])
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder("Waypost federation", key.public_key(), now, AUTHORITY_VALID)
            .issuer_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA384())
        )
        write_private(self.authority_key, _private_pem(key))
        _write_public(self.authority, certificate.public_bytes(serialization.Encoding.PEM))
        return [self.authority, self.authority_key]


def _revoked_name(path: Path) -> Path:
    """Name a revoked key so that one that was revoked earlier stays known too."""
    first = path.with_name(f"{path.name}{REVOKED_SUFFIX}")
    later = (first.with_name(f"{first.name}.{number}") for number in count(2))
    return next(each for each in chain([first], later) if not each.exists())


def write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody but its owner can read, not even while it is written."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    part.replace(path)


def _write_public(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, now: datetime, valid: timedelta
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + valid)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an elliptic curve key")  # noqa: TRY004
    return key


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
