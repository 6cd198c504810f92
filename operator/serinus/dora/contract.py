"""What a team has to reach. https://dora.dev calls none of these levels; they are this project's contract."""

from __future__ import annotations

#: Deployments a day, seconds from opened to 100 %, share of releases that fail, seconds from detection to recovery.
DEPLOYMENTS_A_DAY, LEAD_TIME, FAILURES, RECOVERY = 8.0, 2.5 * 3600, 0.02, 5 * 60.0
