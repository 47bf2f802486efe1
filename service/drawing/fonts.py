"""Text on a picture: the face that Pillow bundles, and the machine's own faces for scripts that it lacks."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

# Looked for by name where fonts lie on this system; the bundled face has ASCII and little more. The wide ones first.
FACES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf",
    "NotoSansDevanagari-Regular.ttf",
)
LACKING = "?"
_NO_CHARACTER = "\uffff"  # what a face draws for it, it draws for every character that it lacks
_CUT = "..."


@dataclass(slots=True)
class Fonts:
    """The faces of one drawing, loaded as they are asked for."""

    _faces: dict[tuple[str, int], FreeTypeFont | None] = field(default_factory=dict)
    _known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def plain(self, size: int) -> FreeTypeFont:
        """The bundled face. size: pixels of an em."""
        found = self._face("", size)
        assert found is not None
        return found

    def of(self, text: str, size: int) -> tuple[str, FreeTypeFont]:
        """A face for the text, and the text as that face can write it.

        Where no face has all of it, accents are dropped, and what still lacks becomes LACKING.
        """
        text = "".join(each if each.isprintable() else " " for each in text)
        for name in ("", *FACES):
            face = self._face(name, size)
            if face is not None and all(self._has(name, face, each) for each in text):
                return text, face
        plain = self.plain(size)
        bare = [each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each)]
        return "".join(each if self._has("", plain, each) else LACKING for each in bare), plain

    def fitted(self, text: str, size: int, width: float) -> tuple[str, FreeTypeFont]:
        """The same, cut to `width` pixels; what goes is in the middle, as names differ at their ends."""
        text, face = self.of(text[:400], size)
        if face.getlength(text) <= width:
            return text, face
        low, high = 0, len(text)
        while low < high:  # characters that are kept
            middle = (low + high + 1) // 2
            if face.getlength(_shortened(text, middle)) <= width:
                low = middle
            else:
                high = middle - 1
        return _shortened(text, low), face

    def _face(self, name: str, size: int) -> FreeTypeFont | None:
        if (name, size) not in self._faces:
            self._faces[name, size] = _loaded(name, size)
        return self._faces[name, size]

    def _has(self, name: str, face: FreeTypeFont, character: str) -> bool:
        if character == " ":
            return True
        if (name, character) not in self._known:
            self._known[name, character] = bytes(face.getmask(character)) != bytes(face.getmask(_NO_CHARACTER))
        return self._known[name, character]


def _loaded(name: str, size: int) -> FreeTypeFont | None:
    try:
        face = ImageFont.truetype(name, size) if name else ImageFont.load_default(size)
    except OSError:
        return None
    assert isinstance(face, FreeTypeFont), "Pillow without FreeType"
    return face


def _shortened(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + _CUT + (text[-tail:] if tail else "")
