"""Pictures in the forms that people really have.

`shown()` are accepted, with the pixels of the plain picture beside them; `refused()` break off or are broken, so that a
browser shows nothing or a part.
"""

from __future__ import annotations

from tests.harness.wild.case import Wild
from tests.harness.wild.jpegs import jpegs, short_jpegs, turned_jpegs
from tests.harness.wild.pngs import apngs, pngs, short_pngs, transparent_pngs, turned_pngs
from tests.harness.wild.webps import short_webps, transparent_webps, turned_webps, webps


def shown() -> list[Wild]:
    plain = [*jpegs(), *pngs(), *webps(), *apngs()]
    return [*plain, *transparent_pngs(), *transparent_webps(), *turned_jpegs(), *turned_pngs(), *turned_webps()]


def refused() -> list[Wild]:
    return [*short_jpegs(), *short_pngs(), *short_webps()]
