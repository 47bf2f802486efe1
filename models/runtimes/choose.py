"""The Way a model runs on this machine, chosen by measuring all there are, each in a process that may die of it.

What was measured is kept, for this kind of processor and these versions; anything else is measured anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from models.artefact import Artefact
from models.errors import DeviceUnavailable
from models.runtimes.openvino import PACKAGE
from models.runtimes.processor import processor_model
from models.runtimes.ways import Way

# Seconds that loading, proving and measuring may take: 3 to 6 seen; a way that takes ten times that is none.
SECONDS = 60.0
# A way must be faster by this factor than a plainer one: less may be the moment's, and another precision is for good.
_WORTH = 1.1
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """single, batched: pictures per second of one thread, one and eight at a time; refused: why it cannot be taken."""

    way: Way
    single: float = 0.0
    batched: float = 0.0
    refused: str | None = None

    @property
    def speed(self) -> float:
        return self.batched if self.batches else self.single

    @property
    def batches(self) -> bool:
        """Whether eight pictures at a time are worth the wait; in onnxruntime they were on no processor seen."""
        return self.way.runtime == "openvino" and self.batched > _WORTH * self.single


def best(measured: Sequence[Measured], *, runtime: str = "auto", precision: str = "auto") -> Measured:
    """The fastest that is allowed; a plainer one, which comes earlier, where the difference is small.

    runtime: "auto" or one of RUNTIMES. precision: "auto", or what it must compute in. Raises DeviceUnavailable, saying
    why the nearest thing was refused.
    """
    allowed = [
        each for each in measured if runtime in ("auto", each.way.runtime) and precision in ("auto", each.way.precision)
    ]
    chosen: Measured | None = None
    for each in allowed:
        if each.refused is None and (chosen is None or each.speed > _WORTH * chosen.speed):
            chosen = each
    if chosen is None:
        why = next((each.refused for each in allowed if each.refused), None)
        raise DeviceUnavailable(
            f"{precision if runtime == 'auto' else runtime} does not run here ({why}): "
            "set LOOKALIKE_RUNTIME and LOOKALIKE_PRECISION to auto"
            if why
            else _impossible(runtime, precision)
        )
    return chosen


def _impossible(runtime: str, precision: str) -> str:
    if precision == "bf16":
        return (
            f"bf16 is computed by openvino: install {PACKAGE} (x86-64 only) with LOOKALIKE_RUNTIME=auto, or set "
            "LOOKALIKE_PRECISION=fp32"
        )
    if runtime == "openvino":
        return f"LOOKALIKE_RUNTIME=openvino needs the package {PACKAGE} (x86-64 only): install it, or set auto"
    return f"{runtime} does not compute in {precision} here: set LOOKALIKE_RUNTIME=auto"


def measured(
    artefact: Artefact, ways: Sequence[Way], places: Sequence[Path], *, say: Callable[[str], None]
) -> list[Measured]:
    """Every way with its speed: read where it was kept and one of them runs, else measured now in turn, and kept.

    places: folders to look in; the last that can be written keeps it. say: takes a line for each way passed over.
    """
    key = _key(artefact)
    runtimes = "-".join(sorted({way.runtime for way in ways}))
    file = f"runtime-{artefact.name}-{artefact.precision}-{runtimes}.json"
    for place in places:
        kept = _kept(place / file, key, ways)
        if kept is not None and any(each.refused is None for each in kept):
            return kept
    found = [probe(artefact, way) for way in ways]
    for reason in dict.fromkeys(each.refused for each in found if each.refused):
        same = [each.way.label for each in found if each.refused == reason]
        say(f"{' and '.join(same)} passed over: {reason}")
    text = json.dumps({"format": _FORMAT, "key": key, "measured": [asdict(each) for each in found]}, indent=1)
    for place in reversed(places):
        with contextlib.suppress(OSError):
            _write(place / file, text)
            break
    return found


def known(artefact: Artefact, places: Sequence[Path]) -> Measured | None:
    """The fastest way that was measured on this machine, if any was; measures nothing."""
    found: list[Measured] = []
    for place in places:
        for path in sorted(place.glob(f"runtime-{artefact.name}-{artefact.precision}-*.json")):
            found += _kept(path, _key(artefact), None) or []
    usable = [each for each in found if each.refused is None]
    return best(usable) if usable else None


def probe(artefact: Artefact, way: Way, *, seconds: float = SECONDS) -> Measured:
    """Runs the artefact that way in a process of its own, and ends it after `seconds`."""
    asked = {"manifest": str(artefact.manifest.absolute()), **asdict(way)}
    command = [sys.executable, "-P", "-m", "models.runtimes.probe", json.dumps(asked)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
        if done.returncode < 0:
            return Measured(way, refused=f"it died of {signal.Signals(-done.returncode).name}")
        said = json.loads(done.stdout.splitlines()[-1])
        return Measured(way, **said)
    except subprocess.TimeoutExpired:
        return Measured(way, refused=f"it took more than {seconds:g} seconds")
    except (OSError, ValueError, IndexError, TypeError) as error:
        return Measured(way, refused=f"it could not be measured ({type(error).__name__})")


def _key(artefact: Artefact) -> str:
    packages = ("onnxruntime", "onnxruntime-gpu", PACKAGE)
    versions = [f"{each} {_version(each)}" for each in packages if _version(each)]
    return " | ".join([processor_model(), *versions, artefact.sha256])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _kept(path: Path, key: str, ways: Sequence[Way] | None) -> list[Measured] | None:
    """What was measured; None where it is not there, of another machine or other ways, or not to be read."""
    try:
        kept = json.loads(path.read_bytes())
        if (kept["format"], kept["key"]) != (_FORMAT, key):
            return None
        found = [Measured(**{**each, "way": Way(**each["way"])}) for each in kept["measured"]]
        sound = all(each.refused is None or isinstance(each.refused, str) for each in found) and all(
            float(each.single) >= 0 and float(each.batched) >= 0 for each in found
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found if sound and (ways is None or [each.way for each in found] == list(ways)) else None


def _write(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-partial-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as target:
            target.write(text)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
