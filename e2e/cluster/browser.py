"""Installs Chromium and its driver where there are none and this user may; tests/browser.py says where they are."""

import os
import shutil

from e2e.cluster.console import ClusterError, part, say
from e2e.cluster.tools import apt_get
from tests.browser import programs

if __name__ == "__main__":
    if programs() is None and os.getuid() == 0 and shutil.which("apt-get"):
        try:
            with part("Debian packages chromium, chromium-driver"):
                apt_get("update")
                apt_get("install", "--yes", "--no-install-recommends", "chromium", "chromium-driver")
        except ClusterError as error:
            say(f"{error}\nThe tests of the page are left out.")
