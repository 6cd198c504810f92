"""The command line: `python -m e2e.cluster up`, `images`, `down`, `status`, `build`, `scrape-interval`."""

import argparse
import os
import sys

from e2e.cluster import addons, lifecycle
from e2e.cluster.console import ClusterError, print_times
from e2e.cluster.paths import KUBECONFIG


def main() -> int:
    """Run one command and return the status for the shell: 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the cluster, or take the one that runs, and print where its kubeconfig is")
    _cluster_argument(up)
    up.add_argument("--take-over", action="store_true", help="stop the local cluster of another clone on this machine")
    build = commands.add_parser("build", help="build all tools and images without starting anything")
    _cluster_argument(build)
    images = commands.add_parser("images", help="build the images that changed and load them into the running cluster")
    images.add_argument("name", nargs="*", help="short names, such as operator; default: all")
    commands.add_parser("down", help="stop the cluster and remove it")
    commands.add_parser("status", help="say what runs")
    interval = commands.add_parser("scrape-interval", help="change how often Prometheus scrapes, and wait until it does")
    interval.add_argument("interval", help="such as 1s")
    given = parser.parse_args()
    try:
        match given.command:
            case "up":
                lifecycle.up(given.cluster, take_over=given.take_over)
                print_times()
                print(f"export KUBECONFIG={KUBECONFIG}")
            case "build":
                lifecycle.build(given.cluster)
                print_times()
            case "images":
                lifecycle.load_images(given.name)
                print_times()
            case "down":
                lifecycle.down()
            case "status":
                print(lifecycle.status())
            case "scrape-interval":
                addons.set_scrape_interval(given.interval)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: `python -m e2e.cluster down` removes what was started", file=sys.stderr)
        return 130
    return 0


def _cluster_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster",
        choices=lifecycle.KINDS,
        default=os.environ.get("CLUSTER") or None,
        help="local: on this machine, as root; kind: in Docker; current: the one KUBECONFIG names (default: CLUSTER, else "
        "kind if Docker answers, else local)",
    )


if __name__ == "__main__":
    sys.exit(main())
