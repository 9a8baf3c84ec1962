"""Content credentials: signed, read back, and refused where they do not hold."""

from __future__ import annotations

import io
import json
from pathlib import Path

import c2pa
import numpy as np
import pytest
from PIL import Image

from app.core.credentials import Signer, Verifier, read_pair
from app.core.provenance import SYNTHETIC, Provenance
from app.errors import CredentialsInvalid
from tests.app.chain import Chain, make_chain

SAID = Provenance("lookalike", "1.2.3", "0123abcd")
FORMS = ("jpeg", "png", "webp")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return make_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def signer(chain: Chain) -> Signer:
    return Signer(read_pair(chain.certificates, chain.key))


def picture(form: str) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_signed_is_read_back_and_trusted_by_its_root(form: str, chain: Chain, signer: Signer) -> None:
    signed = signer(picture(form), f"image/{form}", SAID)
    read = Verifier(chain.root.read_bytes())(signed, f"image/{form}")
    assert (read.state, read.why) == ("trusted", ())
    assert (read.generator, read.version, read.source_type) == ("lookalike", "1.2.3", SYNTHETIC)
    assert read.signer == "Signer of this test"
    assert read.serial == signer.pair.serial
    assert read.when.endswith("Z")
    before, after = (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in (picture(form), signed))
    assert np.array_equal(before, after), "the pixels stay as they were"


def test_the_library_itself_finds_the_claims(signer: Signer) -> None:
    signed = signer(picture("jpeg"), "image/jpeg", SAID)
    with c2pa.Reader("image/jpeg", io.BytesIO(signed)) as reader:
        told = json.loads(reader.json())
    (manifest,) = told["manifests"].values()
    (actions,) = (each["data"]["actions"] for each in manifest["assertions"] if "actions" in each["label"])
    assert [action["action"] for action in actions] == ["c2pa.created"]
    assert actions[0]["digitalSourceType"] == SYNTHETIC
    assert "ingredients" not in manifest, "nothing is said of the photograph"


def test_who_is_not_known_is_valid_and_no_more(signer: Signer) -> None:
    read = Verifier()(signer(picture("png"), "image/png", SAID), "image/png")
    assert read.state == "valid"
    assert any("untrusted" in reason for reason in read.why)


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_picture_is_invalid(form: str, chain: Chain, signer: Signer) -> None:
    signed = bytearray(signer(picture(form), f"image/{form}", SAID))
    place = signed.index(picture(form)[-400:-100]) + 50 if form != "png" else len(signed) - 60
    signed[place] ^= 1
    read = Verifier(chain.root.read_bytes())(bytes(signed), f"image/{form}")
    assert read.state == "invalid"
    assert read.why


def test_a_picture_without_a_manifest_has_none() -> None:
    for form in FORMS:
        assert Verifier()(picture(form), f"image/{form}").state == "absent"


def test_what_is_cut_short_is_an_answer(signer: Signer) -> None:
    signed = signer(picture("jpeg"), "image/jpeg", SAID)
    for length in range(100, len(signed), 401):
        assert Verifier()(signed[:length], "image/jpeg").state in ("absent", "invalid")


def test_a_pair_that_does_not_match_is_refused(chain: Chain, tmp_path: Path) -> None:
    other = make_chain(tmp_path)
    with pytest.raises(CredentialsInvalid, match="is not the key of the first certificate"):
        read_pair(chain.certificates, other.key)


def test_a_certificate_that_ran_out_is_refused(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, days=0)
    with pytest.raises(CredentialsInvalid, match="and not now"):
        read_pair(chain.certificates, chain.key)


def test_no_message_quotes_the_key(chain: Chain, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_bytes(chain.key.read_bytes().replace(b"BEGIN", b"BEGUN"))
    secret = chain.key.read_text().splitlines()[1]
    with pytest.raises(CredentialsInvalid) as refused:
        read_pair(chain.certificates, broken)
    assert secret not in str(refused.value)
    assert secret not in repr(read_pair(chain.certificates, chain.key))


def test_files_that_are_not_there_are_named(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(CredentialsInvalid, match="cannot be read"):
        read_pair(tmp_path / "nothing.pem", chain.key)
    with pytest.raises(CredentialsInvalid, match="is not a chain of certificates"):
        read_pair(chain.key, chain.key)
