"""Instants: RFC 3339 texts as numbers that compare as the times they name, whatever zone and precision they are in."""

from __future__ import annotations

import re
from datetime import date

# full-date alone is midnight UTC; "T" may be a space and either letter lower case (RFC 3339, 5.6).
_FORM = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d)))?", re.ASCII
)
_DIGITS = 18  # of a second's fraction that count; further ones are cut off
UNIT: int = 10**_DIGITS  # instants per second


def is_instant(text: str) -> bool:
    """Whether a text is an RFC 3339 time or date. Quick to say no: it is asked of every text in a filtered key."""
    if len(text) < 10 or text[4] != "-":
        return False
    try:
        instant(text)
    except ValueError:
        return False
    return True


def instant(text: str) -> int:
    """Attoseconds (1e-18 s) since 1970-01-01T00:00:00Z. Raises ValueError for what is no RFC 3339 time or date."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, sign, zone_hours, zone_minutes = found.groups(default="0")
    days = date(int(year), int(month), int(day)).toordinal() - date(1970, 1, 1).toordinal()
    if int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(zone_hours) > 23 or int(zone_minutes) > 59:
        raise ValueError("not an RFC 3339 time")
    seconds: int = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    ahead = int(zone_hours) * 3_600 + int(zone_minutes) * 60
    seconds += ahead if sign == "-" else -ahead
    return seconds * UNIT + int(fraction[:_DIGITS].ljust(_DIGITS, "0"))
