"""Pictures in the forms that people really have.

`coloured()` and `shown()` are accepted, with the pixels of the plain picture beside them; `refused()` break off or are
broken, so that a browser shows nothing or a part.
"""

from __future__ import annotations

from tests.harness.wild import colours, jpegs, pngs, webps
from tests.harness.wild.case import Wild


def coloured() -> list[Wild]:
    return colours.coloured()


def shown() -> list[Wild]:
    sound = [*jpegs.sound(), *pngs.sound(), *webps.sound(), *pngs.apngs()]
    transparent = [*pngs.transparent_pngs(), *webps.transparent_webps()]
    return [*sound, *transparent, *jpegs.turned_jpegs(), *pngs.turned_pngs(), *webps.turned_webps()]


def refused() -> list[Wild]:
    return [*jpegs.short_jpegs(), *pngs.short_pngs(), *webps.short_webps()]
