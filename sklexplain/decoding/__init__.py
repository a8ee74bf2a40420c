"""What a layer keeps of its input: decoders that turn activations back into samples."""

from ._cladec import ClaDecExplainer

__all__ = ["ClaDecExplainer"]
