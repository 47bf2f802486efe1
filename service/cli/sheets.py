"""Contact sheets of the command line: thumbnails from the service, a PNG into a file, and before a person's eyes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from service.cli.graphics import protocol, sequences
from service.cli.options import a_path
from service.cli.terminal import err, out
from service.text import readable

if TYPE_CHECKING:
    from service.cli.client import Api, Service
    from service.settings import Settings

Thumbnailer = Callable[[bytes], Awaitable[bytes | None]]

_AT_ONCE = 8


def png(text: str) -> Path:
    """An argument as the path of a PNG to be written."""
    path = a_path(text)
    if path.suffix.lower() != ".png":
        raise typer.BadParameter(f"{text}: the name of a picture must end in .png")
    return in_a_folder(path)


def in_a_folder(path: Path) -> Path:
    """The path of a file to be written, refused before the work where it has no folder."""
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"{readable(path)}: there is no folder {readable(path.parent)}")
    return path


SheetFile = Annotated[
    Path | None,
    typer.Option(
        "--sheet", metavar="FILE.png", parser=png, help="The pictures on a contact sheet; replaced when it is there."
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Show the file in the viewer that this computer has for it.")]


async def thumbnails(api: Api, collection: str, ids: Iterable[str]) -> dict[str, bytes]:
    """WebP by id, of the items that have a picture. Raises what `Api.content` raises."""
    import asyncio

    places = asyncio.Semaphore(_AT_ONCE)
    base = f"/v1/collections/{quote(collection, safe='')}/items"

    async def one(id: str) -> tuple[str, bytes | None]:
        async with places:
            return id, await api.content(f"{base}/{quote(id, safe='')}/thumbnail")

    found = await asyncio.gather(*(one(id) for id in dict.fromkeys(ids)))
    return {id: data for id, data in found if data is not None}


@asynccontextmanager
async def thumbnailing(service: Service, settings: Settings) -> AsyncIterator[Thumbnailer]:
    """Makes thumbnails of a person's own pictures, in a process that may do nothing else; None of a bad picture."""
    from models.errors import ImageError
    from models.preprocessing import Preprocessing
    from service.embedding.decoder import DecoderPool

    pool = service.runtime.pipeline.decoder if service.runtime is not None else None
    own = None
    if pool is None:
        pool = own = DecoderPool(workers=1, max_bytes=settings.max_upload_bytes, max_pixels=settings.max_pixels)
        await own.start()

    async def made(data: bytes) -> bytes | None:
        try:
            return (await pool.decode(data, preprocessing=Preprocessing(), thumbnail=True)).thumbnail
        except ImageError:
            return None

    try:
        yield made
    finally:
        if own is not None:
            await own.close()


def show(file: Path, picture: bytes, *, opened: bool, quiet: bool = False) -> None:
    """Writes a PNG, whole or not at all; shows it in a terminal that can, and with `opened` in a viewer.

    quiet: stdout is for a program. Raises OSError.
    """
    from rich.markup import escape

    from service.exports.export import Output

    with Output(file) as output:
        output.write(picture)
    if not quiet:
        way = protocol(os.environ) if sys.stdout.isatty() else None
        if way is not None:
            sys.stdout.flush()
            for sequence in sequences(picture, way):
                _write(sys.stdout.fileno(), sequence.encode("ascii"))
        out().print(f"[green]written[/]  {escape(readable(file))}")
    if opened:
        view(file)


def _write(descriptor: int, data: bytes) -> None:
    """All of the bytes: a terminal takes a part where a signal comes between, and unbuffered streams lose the rest."""
    while data:
        data = data[os.write(descriptor, data) :]


def view(file: Path) -> None:
    """Opens a file in the viewer that the system has for it; where there is none, says so."""
    opener = viewer(os.environ)
    if opener is None:
        err().print(f"there is no viewer for {readable(file)} here: open it yourself", style="yellow", markup=False)
        return
    import subprocess

    # The viewer outlives the command, and what it complains of is not the command's to say.
    silent = subprocess.DEVNULL
    subprocess.Popen([opener, str(file.absolute())], stdin=silent, stdout=silent, stderr=silent, start_new_session=True)


def viewer(environment: Mapping[str, str]) -> str | None:
    """The program that opens files of any kind; None without one, or without a screen to open them on."""
    if sys.platform == "darwin":
        return "/usr/bin/open"
    if not environment.get("DISPLAY") and not environment.get("WAYLAND_DISPLAY"):
        return None
    return shutil.which("xdg-open", path=environment.get("PATH"))
