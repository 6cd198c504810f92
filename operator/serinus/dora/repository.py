"""One name for one repository, however a tool writes its address. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

#: As git clone takes it: git@github.com:shop/checkout.git. A number and a slash after the colon are a port.
_SCP = re.compile(r"(?:[^@/\s]+@)?(?P<host>[A-Za-z0-9.-]+):(?!/|\d+/)(?P<path>[^\s]+)")
_USUAL = {"http": 80, "https": 443}


def canonical(address: str) -> str:
    """``https://user:x@GitHub.com/Shop/Checkout.git`` and ``git@github.com:shop/checkout`` -> ``github.com/shop/checkout``.

    Host and path in small letters (forges take them so), without scheme, user, ``.git`` and a usual port. What has no host, such
    as ``shop/checkout``, stays a path; an address that none can have becomes ''.
    """
    address = address.strip()
    scp = _SCP.fullmatch(address) if "://" not in address else None
    if scp is not None:
        host, path = scp["host"], scp["path"]
    elif "://" in address:
        try:
            parts = urlsplit(address.removeprefix("git+"))
            port = parts.port
        except ValueError:
            return ""
        # The port of ssh says nothing about which forge it is.
        shown = port is not None and parts.scheme in _USUAL and port != _USUAL[parts.scheme]
        host, path = (parts.hostname or "") + (f":{port}" if shown else ""), parts.path
    else:
        host, path = "", re.split(r"[?#]", address, maxsplit=1)[0]
    path = path.strip("/").removesuffix(".git")
    return "/".join(part for part in (host, path) if part).lower()
