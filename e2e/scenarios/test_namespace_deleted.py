"""A namespace goes in mid-release: everything in it is deleted at once, in whichever order."""

from __future__ import annotations

import pytest
from e2e import follow, kubectl, shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NAME = "checkout"


def test_namespace_is_deletable_in_mid_release(space: str) -> None:
    follow.serve(space, replicas=1)
    kubectl.apply(shop.canary(NAME, space, [{"weight": 50, "duration": "1s"}, {"pause": {}}], metrics=[]))
    follow.phase(NAME, space, "Stable")
    follow.set_env(space, MESSAGE="v2")
    follow.reached(space, "v2", "Paused")
    kubectl.run("delete", "namespace", space, "--wait", "--timeout=60s")
