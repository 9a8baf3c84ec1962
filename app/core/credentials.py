"""Content credentials: C2PA manifests that say, signed by the operator, what drew a picture and when.

An extra (`pip install 'lookalike[c2pa]'`), and off until the operator gives a certificate chain and its key. What is
written is the specification's least: the picture was created, by this model, by a trained algorithm. Nothing of the
photograph that a look-alike was made of is in it.

Reading never goes to the network: a manifest may name an address to fetch, and a client's picture must not make the
service call one.
"""

from __future__ import annotations

import datetime
import importlib.util
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from app.core.provenance import SYNTHETIC, Provenance
from app.errors import CredentialsInvalid

INSTALL = "pip install 'lookalike[c2pa]'"
ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
"""C2PA's names of signatures, by the curve of the key."""
SOON = datetime.timedelta(days=30)
"""A certificate that runs out within this time is worth a note."""

State = Literal["absent", "trusted", "valid", "invalid", "not-checked"]


@dataclass(frozen=True)
class Credentials:
    """What a picture's manifest says, and whether it can be believed.

    Attributes:
        state: `absent`; `trusted`: the signature holds and its chain ends in a root that is known here; `valid`: it
            holds, by somebody unknown; `invalid`: something does not; `not-checked`: the extra is not installed.
        why: what does not hold, or why it was not checked.
        generator, version: what made the claim.
        source_type: IPTC digital source type; empty where the manifest says none.
        when: of the drawing, as the manifest has it.
        signer: whom the certificate names.
        serial: number of the certificate, decimal.
    """

    state: State = "absent"
    why: tuple[str, ...] = ()
    generator: str = ""
    version: str = ""
    source_type: str = ""
    when: str = ""
    signer: str = ""
    serial: str = ""


@dataclass(frozen=True)
class Pair:
    """A certificate chain and its key, as they are on disk.

    Attributes:
        chain: PEM, the signer's certificate first.
        key: PEM; never shown.
        algorithm: C2PA's name of the signature.
        subject: whom the first certificate names.
        serial: its number, decimal.
        until: when the chain's first certificate runs out.
    """

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str
    subject: str
    serial: str
    until: datetime.datetime


def available() -> bool:
    """Whether the package of the extra `c2pa` is installed."""
    return importlib.util.find_spec("c2pa") is not None


def read_pair(certificates: Path, key: Path) -> Pair:
    """Read a certificate chain and its key, and check that they go together.

    Raises:
        CredentialsInvalid: they cannot be used; the message never quotes the key.
    """
    if not available():
        raise CredentialsInvalid(f"content credentials need a library: {INSTALL}")
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    chain, private = _bytes(certificates), _bytes(key)
    try:
        found = x509.load_pem_x509_certificates(chain)
    except ValueError:
        raise CredentialsInvalid(f"{certificates}: is not a chain of certificates in PEM") from None
    try:
        secret = serialization.load_pem_private_key(private, None)
    except (ValueError, TypeError):
        # Whatever the library says might quote the file.
        raise CredentialsInvalid(f"{key}: is not a private key in PEM, without a password") from None
    if isinstance(secret, ec.EllipticCurvePrivateKey):
        algorithm = ALGORITHMS.get(secret.curve.name, "")
    elif isinstance(secret, rsa.RSAPrivateKey):
        algorithm = "ps256"
    else:
        algorithm = "ed25519" if isinstance(secret, ed25519.Ed25519PrivateKey) else ""
    if not algorithm:
        raise CredentialsInvalid(f"{key}: C2PA signs with P-256, P-384, P-521, Ed25519 or RSA keys, and it is none")
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    encoding = serialization.Encoding.DER
    if found[0].public_key().public_bytes(encoding, public) != secret.public_key().public_bytes(encoding, public):
        raise CredentialsInvalid(f"{key}: is not the key of the first certificate in {certificates}")
    now, until = datetime.datetime.now(datetime.UTC), found[0].not_valid_after_utc
    if not found[0].not_valid_before_utc <= now < until:
        raise CredentialsInvalid(f"{certificates}: holds from {found[0].not_valid_before_utc} to {until}, and not now")
    # PKCS 8, whatever form it had: the library takes no other.
    private = secret.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    subject = found[0].subject.rfc4514_string()
    return Pair(chain, private, algorithm, subject, str(found[0].serial_number), until)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsInvalid(f"{path}: cannot be read ({error.strerror})") from None


class Signer:
    """Signs pictures; to be made once, and called from any thread.

    Raises:
        CredentialsInvalid: the pair cannot sign.
    """

    def __init__(self, pair: Pair) -> None:
        import c2pa

        self.pair = pair
        self._c2pa = c2pa
        self._context = _context(c2pa, b"")
        try:
            self._signer = c2pa.Signer.from_info(
                c2pa.C2paSignerInfo(pair.algorithm.encode(), pair.chain, pair.key, None)
            )
            # A chain that C2PA does not allow shows at the first signature, and must not show at the first request.
            self(_black(), "image/png", Provenance("lookalike", "0", "0"))
        except c2pa.C2paError as error:
            raise CredentialsInvalid(f"the certificate chain cannot sign: {_first_line(error)}") from None

    def __call__(self, picture: bytes, media_type: str, provenance: Provenance) -> bytes:
        """The picture with a signed manifest; the time and a random id in it make it another each time."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        agent = {"name": provenance.name, "version": provenance.version}
        action = {"action": "c2pa.created", "when": when, "softwareAgent": agent, "digitalSourceType": SYNTHETIC}
        manifest = {
            "claim_generator_info": [agent],
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        with self._c2pa.Builder(manifest, context=self._context) as builder:
            builder.sign(self._signer, media_type, io.BytesIO(picture), signed)
        return signed.getvalue()


class Verifier:
    """Reads manifests; to be made once, and called from any thread.

    Args:
        roots: PEM certificates of those who are trusted.
    """

    def __init__(self, roots: bytes = b"") -> None:
        self._context: Any = None
        if available():
            import c2pa

            self._c2pa = c2pa
            self._context = _context(c2pa, roots)

    def __call__(self, picture: bytes, media_type: str) -> Credentials:
        """What the manifest of a picture says; whatever is wrong with it is part of the answer."""
        if self._context is None:
            return Credentials("not-checked", (f"content credentials need a library: {INSTALL}",))
        try:
            with self._c2pa.Reader(media_type, io.BytesIO(picture), context=self._context) as reader:
                said = json.loads(reader.json())
        except self._c2pa.C2paError as error:
            if "ManifestNotFound" in type(error).__name__:
                return Credentials()
            return Credentials("invalid", (_first_line(error),))
        return _credentials(said)


def _credentials(said: dict[str, Any]) -> Credentials:
    """A report of the library in our words; every part of it may be missing."""
    manifest = said.get("manifests", {}).get(said.get("active_manifest"), {})
    results = said.get("validation_results", {}).get("activeManifest", {})
    failures = [failure for failure in results.get("failure", []) if isinstance(failure, dict)]
    why = tuple(_short(f"{item.get('code', '')}: {item.get('explanation', '')}".strip(": ")) for item in failures)
    states: dict[str, State] = {"Trusted": "trusted", "Valid": "valid"}
    signature = manifest.get("signature_info") or {}
    agent: dict[str, Any] = next(iter(manifest.get("claim_generator_info") or [{}]), {})
    actions = [
        action
        for assertion in manifest.get("assertions") or []
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in (assertion.get("data") or {}).get("actions") or []
    ]
    created: dict[str, Any] = next((action for action in actions if action.get("action") == "c2pa.created"), {})
    return Credentials(
        state=states.get(str(said.get("validation_state")), "invalid"),
        why=why,
        generator=_short(agent.get("name", "")),
        version=_short(agent.get("version", "")),
        source_type=_short(created.get("digitalSourceType", "")),
        when=_short(created.get("when", "")),
        signer=_short(signature.get("common_name") or signature.get("issuer") or ""),
        serial=_short(signature.get("cert_serial_number", "")),
    )


def _context(c2pa: Any, roots: bytes) -> Any:
    """No thumbnails in what is written, no network in what is read."""
    chosen: dict[str, Any] = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"verify_after_sign": False, "remote_manifest_fetch": False, "ocsp_fetch": False},
    }
    if roots:
        chosen["trust"] = {"trust_anchors": roots.decode("ascii", "replace")}
    return c2pa.Context(c2pa.Settings.from_dict(chosen))


def _short(value: object) -> str:
    """A value of somebody else's, as one line of at most 200 characters."""
    return " ".join(str(value).split())[:200]


def _first_line(error: Exception) -> str:
    return _short(str(error).partition("\n")[0])


def _black() -> bytes:
    """A picture to try a signature on."""
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG")
    return file.getvalue()
