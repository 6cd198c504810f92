"""The local cluster's network: one /16 of its own on this machine, with no way out of it."""

import contextlib
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.console import ClusterError
from e2e.cluster.run import run

INTERFACE = "serinus0"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
DEFAULT_NETWORK = "10.197.0.0/16"


@dataclass(frozen=True)
class Network:
    """The addresses of a cluster."""

    whole: ipaddress.IPv4Network

    @classmethod
    def chosen(cls) -> "Network":
        """Return the network that SERINUS_CLUSTER_NETWORK names, or the default. Raises ClusterError if it is no /16."""
        text = os.environ.get("SERINUS_CLUSTER_NETWORK") or DEFAULT_NETWORK
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise ClusterError(f"SERINUS_CLUSTER_NETWORK={text}: {error}; give a /16 such as {DEFAULT_NETWORK}") from error
        if network.prefixlen != 16:
            raise ClusterError(f"SERINUS_CLUSTER_NETWORK={text}: give a /16 such as {DEFAULT_NETWORK}")
        return cls(network)

    @property
    def node(self) -> str:
        """The node's own address, where the API server and the kubelet listen."""
        return str(self.whole[255 * 256 + 1])

    @property
    def pods(self) -> str:
        """The range of pod addresses."""
        return f"{self.whole[0]}/24"

    @property
    def services(self) -> str:
        """The range of ClusterIPs."""
        return f"{self.whole[128 * 256]}/20"

    @property
    def first_service(self) -> str:
        """The ClusterIP of the API server."""
        return str(self.whole[128 * 256 + 1])

    @property
    def dns(self) -> str:
        """The ClusterIP of the cluster's DNS."""
        return str(self.whole[128 * 256 + 10])

    def routes(self) -> Iterator[tuple[str, str]]:
        """Whatever on this machine leads into the range, but the node's own: (destination, device)."""
        for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"])):
            destination, device = route.get("dst", "default"), route.get("dev", "")
            if destination in ("default", "0.0.0.0/0") or device == INTERFACE:
                continue
            if ipaddress.IPv4Network(destination, strict=False).overlaps(self.whole):
                yield destination, device

    def remove_links(self) -> None:
        """Delete the links of pods. The kernel may keep a dead pod's for longer than the pod."""
        pods = ipaddress.IPv4Network(self.pods)
        for destination, device in self.routes():
            if device.startswith("veth") and ipaddress.IPv4Network(destination).subnet_of(pods):
                with contextlib.suppress(ClusterError):  # it went by itself meanwhile
                    run(["ip", "link", "delete", device])

    def create(self) -> None:
        """Give this machine the node's address. Raises ClusterError if the range is in use for something else."""
        for destination, device in self.routes():
            raise ClusterError(
                f"{self.whole} is in use on this machine (route {destination} by {device}): "
                f"set SERINUS_CLUSTER_NETWORK to a free /16, such as 10.211.0.0/16"
            )
        run(["ip", "link", "add", INTERFACE, "type", "bridge"])
        run(["ip", "address", "add", f"{self.node}/32", "dev", INTERFACE])
        run(["ip", "link", "set", INTERFACE, "up"])
        FORWARDING.write_text("1")

    def pod_network(self, state: Path) -> str:
        """Return the CNI configuration: each pod has a link of its own to the node, so that services see all traffic."""
        ranges = [[{"subnet": self.pods}]]
        ipam = {"type": "host-local", "dataDir": str(state), "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        plugin = {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam}
        return json.dumps({"cniVersion": "1.0.0", "name": "serinus", "plugins": [plugin]})


def exists() -> bool:
    """Whether a local cluster's interface is there."""
    return any(name == INTERFACE for _, name in socket.if_nameindex())


def free_ports(number: int) -> list[int]:
    """Return TCP ports that are free on the loopback address."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
