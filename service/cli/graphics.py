"""Pictures in a terminal that shows them: kitty's graphics protocol, and iTerm2's.

Which one it has is told by what it sets in the environment; to ask it would mean to read from the terminal what the
person may be typing. Behind tmux and screen nothing is shown: they swallow both.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Literal

Protocol = Literal["kitty", "iterm2"]

_CHUNK = 4096  # characters of base64 in one escape sequence, as kitty asks for


def protocol(environment: Mapping[str, str]) -> Protocol | None:
    """The protocol of the terminal that set this environment; None where it shows no pictures."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux", "dumb")):
        return None
    if term in ("xterm-kitty", "xterm-ghostty") or "KITTY_WINDOW_ID" in environment or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    return None


def sequences(png: bytes, way: Protocol) -> Iterator[str]:
    """What to write to the terminal, so that it shows the picture where the cursor is, no wider than itself."""
    text = base64.b64encode(png).decode()
    if way == "iterm2":
        yield f"\x1b]1337;File=inline=1;size={len(png)};preserveAspectRatio=1:{text}\a\n"
        return
    for start in range(0, len(text), _CHUNK):
        more = int(start + _CHUNK < len(text))
        head = f"a=T,f=100,q=2,m={more}" if start == 0 else f"m={more}"  # transmit and show a PNG, and answer nothing
        yield f"\x1b_G{head};{text[start : start + _CHUNK]}\x1b\\"
    yield "\n"
