"""Every error of `models` is one of these, and its message is one line: what is wrong, and what to do.

ModelsError
├── ImageError              the uploaded bytes are at fault
│   ├── UnsupportedImage    not a picture of an accepted kind, judged by its bytes
│   ├── UndecodableImage    an accepted kind, but damaged or cut short
│   └── ImageTooLarge       more pixels, frames or a longer side than allowed
├── ArtefactError           the model on disk, or on its way there, is at fault
│   ├── WeightsUnavailable  could not be fetched, read or written
│   ├── WeightsCorrupt      fetched, but not what was asked for
│   ├── ArtefactMissing     not built yet
│   └── ArtefactCorrupt     built, but damaged, or computing something else on this machine
├── DeviceUnavailable       the device asked for cannot run the model
└── EmbeddingInvalid        an embedding came out zero or not finite
"""

from __future__ import annotations


class ModelsError(Exception):
    """Base of everything `models` raises on purpose."""


class ImageError(ModelsError):
    """The bytes handed in are no usable picture."""


class UnsupportedImage(ImageError):
    """Not a picture of an accepted kind, judged by its bytes."""


class UndecodableImage(ImageError):
    """A picture of an accepted kind that does not decode: damaged or cut short."""


class ImageTooLarge(ImageError):
    """More pixels (all frames together) or a longer side than the limits allow."""


class ArtefactError(ModelsError):
    """A model cannot be built, found or trusted."""


class WeightsUnavailable(ArtefactError):
    """Weights cannot be fetched, read or written: no npm, no network, no such file, no room on the disk."""


class WeightsCorrupt(ArtefactError):
    """Weights are there but are not the ones asked for, or cannot be parsed."""


class ArtefactMissing(ArtefactError):
    """The model has not been built."""


class ArtefactCorrupt(ArtefactError):
    """A built model fails its checksum or its golden embedding."""


class DeviceUnavailable(ModelsError):
    """The device asked for cannot run the model on this machine."""


class EmbeddingInvalid(ModelsError):
    """An embedding is zero or not finite, so it has no direction to compare."""
