"""From an image reference to the package URL by which CDEvents name an artifact.

https://github.com/package-url/purl-spec, type oci; image references:
https://github.com/distribution/reference.
"""

from __future__ import annotations

import re
from urllib.parse import quote

_REFERENCE = re.compile(r"(?P<name>[^@]+?)(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[A-Za-z0-9+._-]+:[0-9a-fA-F]{32,}))?")


def purl(image: str) -> str:
    """``shop/app:2@sha256:ab..`` -> ``pkg:oci/app@sha256%3Aab..?repository_url=shop/app&tag=2``.

    Without a digest there is no version, as the type's definition demands; the tag is a qualifier. What is no image reference
    becomes a generic package of that name.
    """
    match = _REFERENCE.fullmatch(image)
    if match is None:
        return f"pkg:generic/{quote(image, safe='') or 'unknown'}"
    path, tag, digest = match["name"], match["tag"], match["digest"]
    result = f"pkg:oci/{quote(path.rsplit('/', 1)[-1].lower(), safe='.-_~')}"
    if digest:
        result += f"@{quote(digest.lower(), safe='.-_~')}"
    qualifiers = []
    if "/" in path:
        qualifiers.append(f"repository_url={quote(path, safe='/:.-_~')}")
    if tag:
        qualifiers.append(f"tag={quote(tag, safe='.-_~')}")
    return result + ("?" + "&".join(qualifiers) if qualifiers else "")
