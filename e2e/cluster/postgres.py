"""Installs PostgreSQL's programs where there are none and this user may; tests/stores.py says where they are."""

import os
import shutil

from e2e.cluster.console import ClusterError, part, say
from e2e.cluster.tools import apt_get
from tests.stores import programs

if __name__ == "__main__":
    if programs() is None and os.getuid() == 0 and shutil.which("apt-get"):
        try:
            with part("Debian package postgresql"):
                apt_get("update")
                apt_get("install", "--yes", "--no-install-recommends", "postgresql")
        except ClusterError as error:
            say(f"{error}\nThe tests on PostgreSQL are left out.")
