"""What a picture's metadata say of its origin, be they made to do harm."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from PIL import Image, PngImagePlugin

from app.core.provenance import SYNTHETIC, read_metadata
from tests.patience import PATIENCE


def picture(packet: str) -> Image.Image:
    """A PNG with an XMP packet, which takes up little however long it is."""
    about, file = PngImagePlugin.PngInfo(), io.BytesIO()
    about.add_itxt("XML:com.adobe.xmp", packet, zip=True)
    Image.new("RGB", (1, 1)).save(file, "PNG", pnginfo=about)
    assert len(file.getvalue()) < 5000
    return Image.open(file)


@pytest.mark.parametrize(
    "packet",
    [
        f"<Iptc4xmpExt:DigitalSourceType>{SYNTHETIC}</Iptc4xmpExt:DigitalSourceType>",
        f"<rdf:Description a:DigitalSourceType = '{SYNTHETIC}'/>",
        f'<rdf:Description a:DigitalSourceType="{SYNTHETIC}"/>',
    ],
)
def test_a_property_is_read_as_an_element_and_as_an_attribute(packet: str) -> None:
    assert read_metadata(picture(packet)).source_type == SYNTHETIC


@pytest.mark.parametrize("packet", [f"<:DigitalSourceType>{SYNTHETIC}<", f"DigitalSourceType='{SYNTHETIC}'", ""])
def test_what_has_no_prefix_is_no_property(packet: str) -> None:
    assert not read_metadata(picture(packet)).present


READING = """
from PIL import Image
from app.core.provenance import read_metadata
image = Image.new("RGB", (1, 1))
image.info["xmp"] = {}
assert not read_metadata(image).present
"""

HARMFUL = ["'a' * 10**6", "':DigitalSourceType' * 50_000", "'a:DigitalSourceType' + ' ' * 900_000"]
"""Packets of a million characters."""


@pytest.mark.parametrize("packet", HARMFUL)
def test_a_packet_of_a_million_letters_is_read_at_once(packet: str) -> None:
    """In a process of its own: a regular expression lets nothing else of the service go on, and nobody can stop it."""
    subprocess.run([sys.executable, "-c", READING.format(packet)], check=True, timeout=PATIENCE)
