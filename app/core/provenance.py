"""What every picture that leaves says of its origin in its metadata, and what one that comes in says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape, unescape

from PIL import ExifTags, Image

SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC digital source type of media made by a trained model."""
SYNTHETIC_TYPES = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
"""The types that say that a picture, or part of it, was made by an algorithm."""


@dataclass(frozen=True)
class Provenance:
    """What every image that leaves says about itself: the model that made it, and the id of its answer."""

    name: str
    version: str
    answer: str

    @property
    def software(self) -> str:
        """Name and version of the model, as in the Software tag."""
        return f"{self.name} {self.version}"

    def xmp(self) -> bytes:
        """The XMP packet: IPTC digital source type, generating system, and the answer's id as the document's."""
        name, version, software, answer = map(escape, (self.name, self.version, self.software, self.answer))
        return (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
            '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
            ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
            ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/">'
            f"<Iptc4xmpExt:DigitalSourceType>{SYNTHETIC}</Iptc4xmpExt:DigitalSourceType>"
            f"<Iptc4xmpExt:AISystemUsed>{name}</Iptc4xmpExt:AISystemUsed>"
            f"<Iptc4xmpExt:AISystemVersionUsed>{version}</Iptc4xmpExt:AISystemVersionUsed>"
            f"<xmp:CreatorTool>{software}</xmp:CreatorTool>"
            f"<xmpMM:DocumentID>{answer}</xmpMM:DocumentID>"
            '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
        ).encode()


@dataclass(frozen=True)
class Metadata:
    """What the metadata of a picture say of its origin; anybody can write them, and remove them.

    Attributes:
        source_type: IPTC digital source type, empty where none is given, as are the others.
        system, version: what drew it.
        software: the Software tag, or the creator tool.
        document: the document's id; of this service's pictures that of the answer.
    """

    source_type: str = ""
    system: str = ""
    version: str = ""
    software: str = ""
    document: str = ""

    @property
    def present(self) -> bool:
        """Whether they say that a model drew it."""
        return bool(self.system) or self.source_type.rpartition("/")[2] in SYNTHETIC_TYPES


def read_metadata(image: Image.Image) -> Metadata:
    """What a picture's XMP and EXIF say; damaged ones say nothing."""
    packet = image.info.get("xmp", b"")
    text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet)
    try:
        software = str(image.getexif().get(ExifTags.Base.Software, ""))
    except Exception:  # noqa: BLE001 - whatever is wrong with somebody's EXIF, it says nothing
        software = ""
    return Metadata(
        source_type=_property(text, "DigitalSourceType"),
        system=_property(text, "AISystemUsed"),
        version=_property(text, "AISystemVersionUsed"),
        software=_short(software) or _property(text, "CreatorTool"),
        document=_property(text, "DocumentID"),
    )


def _property(packet: str, name: str) -> str:
    """A property of an XMP packet, written as an element or as an attribute.

    By its look and not by an XML parser: the packet is somebody else's, and may be damaged or made to do harm. Of the
    prefix one character is looked at: a whole one would be begun anew at each of a million letters, for hours.
    """
    found = re.search(rf"(?<=[A-Za-z0-9]):{name}(?:\s*=\s*[\"']([^\"'<]{{1,500}})[\"']|>([^<]{{1,500}})<)", packet)
    return _short(unescape(found[1] or found[2], {"&quot;": '"', "&apos;": "'"})) if found else ""


def _short(value: str) -> str:
    """One line of at most 200 characters that can be printed."""
    return "".join(char for char in " ".join(value.split()) if char.isprintable())[:200]
