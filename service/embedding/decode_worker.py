"""A process that decodes pictures for the service, and nothing else: it may crash, hang or run out of memory.

It is started with a clean interpreter, so it holds neither the data directory's lock nor the listening socket, and it
is confined before it sees a picture. Bytes come in and pixels go out through one shared mapping; the socket carries
only small headers (see `decoder_process`), the first of which says what confinement the kernel lacks.
"""

from __future__ import annotations

import ctypes
import io
import math
import mmap
import resource
import signal
import socket
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec

import orjson
from PIL import Image, ImageCms

from models.errors import ImageError
from models.pictures import image
from models.pictures.limits import Limits
from models.preprocessing import Preprocessing
from service.embedding.confinement import confine

# 64 million pixels in RGBA are 256 MB, and Pillow may hold two copies beside the interpreter's own mappings.
ADDRESS_SPACE = 3 * 2**30


def die_with_parent() -> None:
    """Linux only: a worker that hangs in a decoder must not outlive a killed server."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    socket_fd, memory_fd, max_pixels, cpu_seconds = (int(each) for each in sys.argv[1:5])
    die_with_parent()
    for each in (signal.SIGINT, signal.SIGTERM):  # these go to whole groups; the parent decides when a worker ends
        signal.signal(each, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what a picture makes Pillow say is no business of the log
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    limits = Limits(max_pixels=max_pixels)
    with socket.socket(fileno=socket_fd) as channel, mmap.mmap(memory_fd, 0) as memory:
        warm_up()
        channel.sendall(orjson.dumps(confine()))
        while header := channel.recv(65536):
            allow(cpu_seconds)
            channel.sendall(orjson.dumps(answer(orjson.loads(header), memory, limits)))


def warm_up() -> None:
    """Loads what Pillow loads only when a picture needs it; once confined, it could not."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP"):
        made = io.BytesIO()
        Image.new("RGB", (16, 16)).save(made, kind, icc_profile=srgb)
        image.decode(made.getvalue(), thumbnail=True)
    if find_spec("pillow_heif") is not None:
        Image.init()
        import_module("pillow_heif")


def allow(seconds: int) -> None:
    """So much processor time from now on; then the kernel ends the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def answer(job: dict[str, object], memory: mmap.mmap, limits: Limits) -> dict[str, object]:
    """Decodes one picture out of `memory`, leaves pixels and thumbnail at its start, says where what lies."""
    size = job["size"]
    crop = job.get("crop")
    wanted = job["preprocessing"]
    assert isinstance(size, int)
    assert isinstance(wanted, dict)
    try:
        with memoryview(memory) as view, view[:size] as data:
            decoded = image.decode(
                data,
                limits,
                preprocessing=Preprocessing.parse(wanted),
                crop=tuple(crop) if isinstance(crop, list) else None,
                thumbnail=bool(job.get("thumbnail")),
            )
    except ImageError as error:
        return {"error": type(error).__name__, "detail": str(error)}
    except MemoryError:
        return {"error": "ImageTooLarge", "detail": "The picture needs more memory than decoding one may take"}
    pixels = decoded.pixels.tobytes()
    thumbnail = decoded.thumbnail or b""
    with memoryview(memory) as view:
        view[: len(pixels)] = pixels
        view[len(pixels) : len(pixels) + len(thumbnail)] = thumbnail
    return {
        "shape": decoded.pixels.shape,
        "thumbnail": len(thumbnail),
        "width": decoded.width,
        "height": decoded.height,
        "format": decoded.format,
        "plain": decoded.plain,
    }


if __name__ == "__main__":
    main()
