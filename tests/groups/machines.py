"""Two machines on one: two network namespaces, a router between them with a firewall, and a cable that can be cut.

It needs to be root, and a kernel and an `ip` that let it. A process enters a machine, and so do its forks from then on.
"""

import ctypes
import itertools
import os
import subprocess

HUB_PORT = 29600
PORTS = "20000-20999"
"""The range from which both machines take ports: what the firewall lets through, beside the hub's."""

_CLONE_NEWNET = 0x40000000


def ip(*words, namespace=None):
    command = ["ip", *(("-n", namespace) if namespace else ()), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def why_not():
    """Says why there cannot be two machines here. "" if there can."""
    try:
        with Machines("try"):
            return ""
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)


class Machines:
    """The machines "here" and "there". Their namespaces go when the context ends."""

    def __init__(self, called):
        prefix = f"tr{os.getpid()}{called}"
        self.namespaces = {name: f"{prefix}-{name}" for name in ("here", "there", "router")}
        self.addresses = {"here": "10.77.1.2", "there": "10.77.2.2"}
        self.hub = f"{self.addresses['here']}:{HUB_PORT}"

    def __enter__(self):
        made = []
        try:
            for namespace in self.namespaces.values():
                ip("netns", "add", namespace)
                made.append(namespace)
            self._connect()
        except BaseException:
            self._remove(made)
            raise
        return self

    def __exit__(self, *error):
        self._remove(self.namespaces.values())

    def _remove(self, namespaces):
        for namespace in namespaces:
            ip("netns", "delete", namespace)

    def _connect(self):
        router = self.namespaces["router"]
        for name, address in self.addresses.items():
            machine, gateway = self.namespaces[name], address.removesuffix("2") + "1"
            ip("link", "add", "dev", "eth0", "type", "veth", "peer", "name", name, "netns", router, namespace=machine)
            for dev, inet, namespace in (("eth0", address, machine), (name, gateway, router)):
                ip("address", "add", f"{inet}/24", "dev", dev, namespace=namespace)
                ip("link", "set", "dev", dev, "up", namespace=namespace)
            ip("link", "set", "dev", "lo", "up", namespace=machine)
            ip("route", "add", "default", "via", gateway, namespace=machine)
            self._set(name, "ip_local_port_range", PORTS.replace("-", " "))
        self._set("router", "ip_forward", "1")
        for number, (source, to) in enumerate(itertools.product((HUB_PORT, PORTS), repeat=2), 10):
            rule = f"pref {number} ipproto tcp sport {source} dport {to} lookup main"
            ip("rule", "add", *rule.split(), namespace=router)
        ip("rule", "add", "pref", "20", "blackhole", namespace=router)

    def _set(self, name, setting, value):
        command = f"echo {value} > /proc/sys/net/ipv4/{setting}"
        subprocess.run(["ip", "netns", "exec", self.namespaces[name], "sh", "-c", command], timeout=30, check=True)

    def enter(self, name):
        """Moves this thread, and those that it starts, into a machine."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespaces[name]}") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"cannot enter {name}")

    def cut(self):
        """Cuts the cable: what is sent is lost, and nobody is told."""
        ip("rule", "add", "pref", "1", "blackhole", namespace=self.namespaces["router"])

    def mend(self):
        ip("rule", "delete", "pref", "1", namespace=self.namespaces["router"])
