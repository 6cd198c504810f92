"""The local cluster: upstream Kubernetes, containerd and etcd as processes of this machine, for root on Linux."""

import json
import os
import platform
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from e2e.cluster import containerd, gotools, images, leftovers, network, operator_image, tools
from e2e.cluster.certificates import Authority
from e2e.cluster.console import ClusterError, part
from e2e.cluster.containerd import Containerd
from e2e.cluster.kubectl import kubectl, ready
from e2e.cluster.network import Network
from e2e.cluster.paths import AUDIT_LOG, KUBECONFIG, LOGS, MANIFESTS, STATE
from e2e.cluster.processes import Process, Registry
from e2e.cluster.processes import stop as stop_processes
from e2e.cluster.run import wait_for

NODE = "serinus"
PROCESSES = Registry(STATE / "processes.json")
ENGINE = Containerd(STATE / "containerd", STATE / "run")
AUDITED_NAMESPACE = "serinus-system"


def start(take_over: bool = False) -> dict[str, str]:
    """Start a cluster on this machine and return when its node is ready, and all images are loaded.

    Returns the key of each image by its reference. Raises ClusterError, with a log to read.
    """
    programs = prepare()
    leftovers.claim(STATE, take_over=take_over)
    addresses = Network.chosen()
    addresses.create()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    loaded = containerd.copy_store(ENGINE.root)
    (STATE / "cni").mkdir(exist_ok=True)
    (STATE / "cni" / "10-serinus.conflist").write_text(addresses.pod_network(STATE / "run" / "addresses"))
    ENGINE.start(PROCESSES, LOGS / "containerd.log", STATE / "cni")
    keys = {image.reference: image.key() for image in images.IMAGES}
    with ThreadPoolExecutor(1) as beside:
        other = [image for image in images.IMAGES if loaded.get(image.reference) != keys[image.reference]]
        loading = beside.submit(ENGINE.load, other)
        with part("control plane and node"):
            _start_control_plane(programs, addresses)
            wait_for("the API server is ready", ready, seconds=60)
            _start_node(programs, addresses)
            wait_for("the node is ready", _node_ready, seconds=60, every=0.2)
        loading.result()
    kubectl("apply", "--filename", "-", stdin=_cluster_dns(addresses))
    return keys


def prepare() -> dict[str, Path]:
    """Return the programs that the cluster is made of, built or installed if they are not there."""
    if platform.system() != "Linux" or os.geteuid() != 0:
        raise ClusterError("the local cluster needs root on Linux: run it as root, or start Docker and take CLUSTER=kind")
    with ThreadPoolExecutor(1) as beside:  # the compiler does not keep the disk and the network busy
        packages = beside.submit(_packages)
        programs = gotools.programs([*gotools.CLIENTS, *gotools.NODE, *gotools.SERVED])
        packages.result()
    tools.link({name: programs[name] for name in gotools.CLIENTS})
    containerd.store()
    return programs


def _packages() -> None:
    """All that is unpacked and not compiled."""
    tools.need_commands(nft="nftables", ip="iproute2", openssl="openssl", mount="mount", buildah="buildah", skopeo="skopeo")
    operator_image.prepare()
    tools.unpacked_packages()
    gotools.module_folder("sigs.k8s.io/gateway-api")
    for image in images.named(["traefik"]):
        with image.archive():
            pass


def healthy() -> bool:
    """Whether this clone's cluster runs: every process that was started, and an API server that answers."""
    known = PROCESSES.read()
    return bool(known) and all(process.alive for process in known.values()) and ready()


def process_of(container: str) -> Process | None:
    """The first process of a container; None where this clone's cluster is not a local one."""
    if not PROCESSES.read():
        return None
    tasks = (line.split() for line in ENGINE.ctr("tasks", "ls").splitlines())
    return next((Process.of(int(task[1])) for task in tasks if task[0] == container), None)


def restart_api_server() -> None:
    """Kill the API server, start it as it was, and return when it is ready."""
    process = PROCESSES.read()["kube-apiserver"]
    words = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    stop_processes([process], seconds=5, first=signal.SIGKILL)
    log = LOGS / "kube-apiserver.log"
    process = PROCESSES.start("kube-apiserver", words, log=log)

    def back() -> bool:
        if not process.alive:
            raise ClusterError(f"it ended: {log.read_text()[-600:]}")
        return ready()

    wait_for("the API server is ready", back, seconds=60)


def stop() -> None:
    """Stop the cluster and remove whatever it made outside its folder."""
    leftovers.clean(STATE)


def load(wanted: list[images.Image]) -> None:
    """Bring images into the cluster."""
    ENGINE.load(wanted)


def _start_control_plane(programs: dict[str, Path], addresses: Network) -> None:
    authority = Authority(STATE / "certificates")
    server = f"https://{addresses.node}:6443"
    etcd, peers = (f"http://127.0.0.1:{port}" for port in network.free_ports(2))
    PROCESSES.start(
        "etcd",
        [
            programs["etcd"], f"--data-dir={STATE / 'etcd'}", "--unsafe-no-fsync", "--log-level=warn",
            f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}", f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
        ],
        log=LOGS / "etcd.log",
    )  # fmt: skip
    names = [f"IP:{addresses.node}", f"IP:{addresses.first_service}", "IP:127.0.0.1", "DNS:localhost"]
    names += [f"DNS:kubernetes{end}" for end in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    certificate, key = authority.issue("apiserver", "/CN=kube-apiserver", names)
    kubelet_client = authority.issue("apiserver-kubelet", "/O=system:masters/CN=kube-apiserver")
    tokens = authority.signing_key("service-accounts")
    audit = STATE / "audit.yaml"
    audit.write_text(_audit_policy())
    PROCESSES.start(
        "kube-apiserver",
        [
            programs["kube-apiserver"], f"--advertise-address={addresses.node}", f"--bind-address={addresses.node}",
            "--secure-port=6443", f"--service-cluster-ip-range={addresses.services}", f"--etcd-servers={etcd}",
            f"--client-ca-file={authority.certificate}", f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
            f"--kubelet-client-certificate={kubelet_client[0]}", f"--kubelet-client-key={kubelet_client[1]}",
            "--kubelet-preferred-address-types=InternalIP", f"--service-account-key-file={tokens}",
            f"--service-account-signing-key-file={tokens}",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local", "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
            f"--audit-policy-file={audit}", f"--audit-log-path={AUDIT_LOG}", "--audit-log-maxsize=200",
        ],
        log=LOGS / "kube-apiserver.log",
    )  # fmt: skip
    authority.kubeconfig(KUBECONFIG, server, "admin", "/O=system:masters/CN=admin")
    manager, scheduler = (
        authority.kubeconfig(STATE / f"{name}.kubeconfig", server, name, f"/CN=system:{name}")
        for name in ("kube-controller-manager", "kube-scheduler")
    )
    PROCESSES.start(
        "kube-controller-manager",
        [
            programs["kube-controller-manager"], f"--kubeconfig={manager}", "--leader-elect=false", "--secure-port=0",
            f"--authentication-kubeconfig={manager}", f"--authorization-kubeconfig={manager}",
            f"--root-ca-file={authority.certificate}", f"--service-account-private-key-file={tokens}",
            "--use-service-account-credentials=true", f"--cluster-signing-cert-file={authority.certificate}",
            f"--cluster-signing-key-file={authority.folder / 'ca.key'}",
        ],
        log=LOGS / "kube-controller-manager.log",
    )  # fmt: skip
    PROCESSES.start(
        "kube-scheduler",
        [
            programs["kube-scheduler"], f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0",
            f"--authentication-kubeconfig={scheduler}", f"--authorization-kubeconfig={scheduler}",
        ],
        log=LOGS / "kube-scheduler.log",
    )  # fmt: skip


def _start_node(programs: dict[str, Path], addresses: Network) -> None:
    authority = Authority(STATE / "certificates")
    server = f"https://{addresses.node}:6443"
    empty = STATE / "resolv.conf"
    empty.touch()
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "authentication": {
            "x509": {"clientCAFile": str(authority.certificate)}, "webhook": {"enabled": True}, "anonymous": {"enabled": False}
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{ENGINE.socket}",
        "clusterDNS": [addresses.dns],
        "clusterDomain": "cluster.local",
        "resolvConf": str(empty),
        "podLogsDir": str(LOGS / "pods"),
        "volumePluginDir": str(STATE / "kubelet" / "plugins"),
        "staticPodPath": "",
        "maxPods": 110,
        "healthzPort": 0,
        "makeIPTablesUtilChains": False,
        # What a machine that is itself a container, or has version 1 of cgroups, does not allow or lacks:
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        # The disk is shared with whatever else this machine does: never evict or collect because of it.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available"), "0%"),
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }  # fmt: skip
    configuration = STATE / "kubelet.yaml"
    configuration.write_text(yaml.safe_dump(kubelet))
    subject = f"/O=system:nodes/CN=system:node:{NODE}"
    credentials = authority.kubeconfig(STATE / "kubelet.kubeconfig", server, "kubelet", subject)
    PROCESSES.start(
        "kubelet",
        [
            programs["kubelet"], f"--config={configuration}", f"--kubeconfig={credentials}", f"--node-ip={addresses.node}",
            f"--hostname-override={NODE}", f"--root-dir={STATE / 'kubelet'}", f"--cert-dir={STATE / 'kubelet' / 'pki'}",
        ],
        log=LOGS / "kubelet.log",
    )  # fmt: skip
    metrics, health = network.free_ports(2)
    proxy = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": addresses.pods,
        "hostnameOverride": NODE,
        "nodeIPOverride": [addresses.node],
        "metricsBindAddress": f"127.0.0.1:{metrics}",
        "healthzBindAddress": f"127.0.0.1:{health}",
        # Limits of connection tracking belong to the machine.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "clientConnection": {
            "kubeconfig": str(authority.kubeconfig(STATE / "kube-proxy.kubeconfig", server, "proxy", "/CN=system:kube-proxy"))
        },
    }  # fmt: skip
    configuration = STATE / "kube-proxy.yaml"
    configuration.write_text(yaml.safe_dump(proxy))
    PROCESSES.start("kube-proxy", [programs["kube-proxy"], f"--config={configuration}"], log=LOGS / "kube-proxy.log")


def _node_ready() -> bool:
    node = json.loads(kubectl("get", "node", NODE, "--output=json"))
    return any(item["type"] == "Ready" and item["status"] == "True" for item in node["status"]["conditions"])


def _audit_policy() -> str:
    """Record the requests of the operator's service accounts, whose number and verbs the benchmarks count.

    And EndpointSlices, which gateways read: where requests failed, who was ready when is the first thing to ask.
    """
    group = f"system:serviceaccounts:{AUDITED_NAMESPACE}"
    which = {"group": "discovery.k8s.io", "resources": ["endpointslices"]}
    slices = {"resources": [which], "verbs": ["create", "update", "delete"]}
    rules = [
        {"level": "Metadata", "userGroups": [group], "omitStages": ["RequestReceived"]},
        {"level": "Request", "omitStages": ["RequestReceived"], **slices},
        {"level": "None"},
    ]
    return yaml.safe_dump({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules})


def _cluster_dns(addresses: Network) -> str:
    return (MANIFESTS / "local" / "dns.yaml").read_text().replace("CLUSTER_DNS", addresses.dns)
