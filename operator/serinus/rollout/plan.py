"""Arithmetic of a plan: how many pods a share needs, what a number of pods can carry, how traffic goes back."""

from __future__ import annotations

import math


def pods_for(weight: int, replicas: int, by_pods: bool = False) -> int:
    """Canary pods that `weight` percent of the traffic needs, when `replicas` pods carry all of it.

    With `by_pods` the share is the number: c of c + replicas pods, at most half.
    """
    if weight <= 0 or replicas <= 0:
        return 0
    if by_pods:
        wanted = replicas if weight >= 50 else round(replicas * weight / (100 - weight))
        return max(1, min(wanted, replicas))
    return max(1, math.ceil(replicas * weight / 100))


def carries(ready: int, replicas: int) -> int:
    """The highest weight in percent that `ready` pods can carry, when `replicas` pods carry all the traffic."""
    if ready <= 0:
        return 0
    return min(100, math.floor(100 * ready / max(replicas, 1)))


def share_of_pods(canary: int, serving: int) -> int:
    """The share in percent that follows from pod counts."""
    return max(1, round(100 * canary / (canary + serving))) if canary else 0


def way_back(weight: int) -> list[int]:
    """Canary weights on the way from `weight` to 0, once the user's own pods run the judged version."""
    return [50, 0] if weight > 50 else [0]
