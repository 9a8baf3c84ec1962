"""Encoder and decoder as they are served: bytes in, bytes out."""

from __future__ import annotations

from torch import Tensor, nn

from model_export.exporting.reach import Gain, Reach
from model_export.networks.generator import Decoder, Encoder
from model_export.networks.pretrained import FrozenRecognizer
from model_export.pictures import normalised, to_bytes


class OwnEncoder(nn.Module):
    """The part of the encoder that was trained here: it is given the recogniser's embedding."""

    def __init__(self, encoder: Encoder, reach: Reach | None = None) -> None:
        super().__init__()
        self.encoder, self.reach = encoder, reach

    def forward(self, image: Tensor, embedding: Tensor) -> tuple[Tensor]:
        """Faces uint8 [n, 128, 128, 3], embeddings [n, 192] of unit length -> means of identities float32 [n, 70]."""
        identity, _ = self.encoder(normalised(image), embedding)
        if self.reach is not None:
            identity = self.reach(identity, embedding)
        return (identity,)


class ServedEncoder(nn.Module):
    """The encoder as it is served: bytes in, the mean of the identity out, and the recogniser's embedding."""

    def __init__(self, encoder: Encoder, recognizer: FrozenRecognizer, reach: Reach | None = None) -> None:
        super().__init__()
        self.own, self.recognizer = OwnEncoder(encoder, reach), recognizer

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Faces uint8 [n, 128, 128, 3] -> identities float32 [n, 70], embeddings float32 [n, 192] of unit length."""
        embedding = self.recognizer(normalised(image))
        return (*self.own(image, embedding), embedding)


class ServedDecoder(nn.Module):
    """The decoder as it is served: bytes out, and controls that reach as far as the identity says."""

    def __init__(self, decoder: Decoder, gain: Gain | None = None) -> None:
        super().__init__()
        self.decoder, self.gain = decoder, gain

    def forward(self, identity: Tensor, control: Tensor) -> tuple[Tensor]:
        """Identities [n, 70], controls [n, 10] -> faces uint8 [n, 128, 128, 3]."""
        if self.gain is not None:
            control = self.gain(identity, control)
        return (to_bytes(self.decoder(identity, control)),)
