"""A certificate chain for content credentials, made for one test: nothing of it is kept."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Chain:
    """Where its parts lie: the chain, its key, and the root alone."""

    certificates: Path
    key: Path
    root: Path


def make_chain(folder: Path, days: int = 90) -> Chain:
    """A root, and a certificate that it signed for this test, which holds for so many days from yesterday."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("Root of this test", root_key, "Root of this test", root_key, True, 1000)
    leaf = _certificate("Signer of this test", key, "Root of this test", root_key, False, days)
    chain = Chain(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
    pem = serialization.Encoding.PEM
    chain.certificates.write_bytes(leaf.public_bytes(pem) + root.public_bytes(pem))
    chain.root.write_bytes(root.public_bytes(pem))
    plain = serialization.NoEncryption()
    chain.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return chain


def _certificate(name: str, key: Key, issuer: str, issuer_key: Key, authority: bool, days: int) -> x509.Certificate:
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    usage = x509.KeyUsage(not authority, False, False, False, False, authority, authority, False, False)
    builder = (
        x509.CertificateBuilder(_name(issuer), _name(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(usage, critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "lookalike's tests")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), organisation])
