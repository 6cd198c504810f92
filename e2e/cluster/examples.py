"""GitHub's published webhook examples, from the npm package that they come in; kept in the cache that all clones share.

Tests look at `there()` and fetch nothing. `python -m e2e.cluster.examples` fetches them, with npm where this machine has it.
"""

import base64
import hashlib
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from e2e.cluster import cache
from e2e.cluster.console import ClusterError, say
from e2e.cluster.paths import CACHE
from e2e.cluster.run import run

PACKAGE = "@octokit/webhooks-examples@7.6.1"
INTEGRITY = "sha512-De6U3XB6O3DtCa7bKgCMzTHdeopqqZ6SNivMYJnK65ierKL1AnNIA0tkRYCRS7lwGT792d+Ps1WbfHlso6MynQ=="
"""As npm writes it (https://www.w3.org/TR/SRI/): whatever is unpacked has it."""
ENTRY = f"npm/webhooks-examples-{hashlib.sha256(INTEGRITY.encode()).hexdigest()[:16]}"
MISSING = "GitHub's examples are not there: `make examples` fetches them, with npm"


class Tampered(ClusterError):
    """The registry gave something else than what is pinned."""


def there() -> list[Path]:
    """The files, one for github.com and one for each version of its server; none where they were not fetched."""
    return sorted((CACHE / ENTRY).glob("*/index.json"))


def fetch() -> Path:
    """The folder with the examples, first fetched if it is not there. Raises ClusterError, and Tampered."""
    return cache.entry(ENTRY, _fetched)


def _fetched(draft: Path) -> None:
    if not shutil.which("npm"):
        raise ClusterError("npm is not on this machine: install Node.js to have GitHub's examples")
    with tempfile.TemporaryDirectory() as folder:
        run(
            ["npm", "pack", PACKAGE, "--loglevel=error", "--ignore-scripts", "--pack-destination", folder],
            cwd=Path(folder),
            timeout=120,
        )
        archives = list(Path(folder).glob("*.tgz"))
        if len(archives) != 1:
            raise ClusterError(f"npm pack {PACKAGE} left {len(archives)} archives, and one was expected")
        unpack(archives[0], draft)


def unpack(archive: Path, folder: Path, integrity: str = INTEGRITY) -> None:
    """Its examples into `folder`. Raises Tampered if the archive's digest is not `integrity`."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        raise Tampered(f"{PACKAGE} came with {found}, and {integrity} is pinned in {__file__}: do not use it")
    folder.mkdir()
    with tarfile.open(archive) as packed:
        for member in packed:
            parts = Path(member.name).parts
            if len(parts) == 3 and parts[2] == "index.json" and parts[1] != ".." and member.isfile():
                (folder / parts[1]).mkdir(exist_ok=True)
                packed.makefile(member, str(folder / parts[1] / "index.json"))


if __name__ == "__main__":
    try:
        fetch()
    except Tampered as wrong:
        sys.exit(str(wrong))
    except ClusterError as error:
        say(f"{error}\nThe test over GitHub's published examples is left out.")
