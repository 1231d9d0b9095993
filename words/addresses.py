"""Addresses of databases and brokers: which text is one, and how it is shown without the password in it."""

import os
import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["concealed", "file_address", "has_password", "is_address", "socket_address", "without_passwords"]

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PASSWORD = re.compile(r"(?<=://)([^\s:/?#@'\"]*):[^\s/]*@")
_OPTION = re.compile(r"(?i)\b((?:[a-z]*password|passwd|secret|token)\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s&,;)'\"]+)")


def is_address(text: str) -> bool:
    """Whether a database's place is an address (KIND://...); a file's name otherwise, whatever characters it has."""
    return _ADDRESS.match(text) is not None


def file_address(file: str) -> str:
    """The address of an SQLite file, whatever characters its name has; a tilde stands for a home."""
    return "sqlite:///" + os.path.expanduser(file).replace("%", "%25").replace("?", "%3F")


def socket_address(file: object) -> str:
    """The address of a broker at a socket of this machine, in kombu's words."""
    return f"redis+socket://{file}"


def has_password(text: str) -> bool:
    """Whether an address carries a password, in its place or among its options."""
    return is_address(text) and (_PASSWORD.search(text) is not None or _OPTION.search(text) is not None)


def without_passwords(text: str) -> str:
    """Any text, such as another library's message, with the passwords of the addresses in it replaced by ***."""
    return _OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def concealed(url: str) -> str:
    """The address with its password, and the values of its options, replaced by ***."""
    try:
        parts = urlsplit(url)
        password = parts.password
    except ValueError:
        return "***"
    place = parts.netloc
    if password is not None:
        user, _, host = place.rpartition("@")
        place = f"{user.partition(':')[0]}:***@{host}"
    query = "&".join(f"{pair.partition('=')[0]}=***" for pair in parts.query.split("&")) if parts.query else ""
    hidden = urlunsplit((parts.scheme, place, parts.path, query, parts.fragment))
    # urlunsplit drops the empty authority of sqlite:///file
    return hidden if place or not url.startswith(f"{parts.scheme}://") else hidden.replace(":", "://", 1)
