"""What every picture that leaves says of its origin."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

SYNTHETIC = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC digital source type of media made by a trained model."""


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
