"""Values of settings as people write them: `~` in paths, names of hosts, a file `.env` in the encodings there are."""

from __future__ import annotations

import io
import ipaddress
import re
from pathlib import Path

from dotenv import dotenv_values

from service.text import encoding_of

# A name of labels of letters, digits, hyphens and (as containers have it) underscores; RFC 1123 has the lengths.
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
MAX_HOST = 253


def read_dotenv(file: Path) -> dict[str, str]:
    """The variables of a `.env` in UTF-8 or UTF-16. Raises ValueError and OSError with one line each."""
    data = file.read_bytes()
    try:
        text = data.decode(encoding_of(data[:4]))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{file} line {line} is not UTF-8 text: save the file as UTF-8") from None
    if "\0" in text:
        raise ValueError(f"{file} is no text file")
    return {name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None}


def expanded(path: Path) -> Path:
    """A path with `~` and `~user` put in full. Raises ValueError for a user that does not exist."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{path.parts[0]} is no user's home here; write the path in full") from None


def host_of(text: str) -> str:
    """An address or a host's name to listen on, an IPv6 address without brackets. Raises ValueError."""
    host = text.strip()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    if re.fullmatch(r"[0-9.]+", host):
        raise ValueError(f"{text!r} is no address: an IPv4 address is four numbers up to 255")
    if re.fullmatch(r"[^:/]+:[0-9]+", host):
        raise ValueError(f"{text!r} has a port in it, which goes into LOOKALIKE_PORT")
    try:
        name = host.removesuffix(".").encode("idna").decode()
    except UnicodeError:
        name = ""
    if len(name) > MAX_HOST or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError(f"{text[:80]!r} is neither an address nor a host's name, such as 127.0.0.1 or localhost")
    return name
