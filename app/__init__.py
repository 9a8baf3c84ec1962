"""The look-alike service: a photograph of a face in, synthetic faces that resemble it out."""

__version__ = "0.1.0"
