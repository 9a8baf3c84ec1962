"""The look-alike service: a photograph of a face in, synthetic faces that resemble it out."""

import os

__version__ = "0.1.0"

# From 1.29 on, ONNX Runtime keeps a device id and reports each session to its maker unless it is told not to before it
# is imported. Nothing of this service reports anywhere.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
