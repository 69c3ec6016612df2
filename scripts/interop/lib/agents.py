"""Starts what the clients talk to: three agents of tidings that gossip, or one server of Consul as it is operated."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

import tools

CONSUL_VERSION = "1.8.7"
REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# A debug build on two busy cores starts within two seconds, a Consul server elects itself within eight.
START_SECONDS_MAX = 30
# As harnesses of Consul expect of it.
STOP_SECONDS_MAX = 10


class NotStarted(Exception):
    """The target does not run; says what it printed last."""


def program(target, binary=None):
    """The path of the target's program."""
    if binary:
        return binary
    if target == "consul":
        path, _ = tools.debian("consul", "consul", suite=tools.CONSUL_SUITE)
        if CONSUL_VERSION not in (found := tools.step([path, "version"])):
            raise tools.Missing(f"Consul {CONSUL_VERSION} was expected, this is {found.splitlines()[0]}")
        return path
    tools.need("cargo")
    # A tree that does not build is a failure, not a reason to skip.
    subprocess.run(["cargo", "build", "-q", "--bin", "tidings"], cwd=REPOSITORY, check=True)
    return os.path.join(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target", "debug", "tidings")


def free_ports(count):
    """Loopback ports that are free for TCP and UDP; all are held until all are known, so that none comes twice."""
    held, ports = [], []
    while len(ports) < count:
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.bind(("127.0.0.1", 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        held += [tcp, udp]
        with contextlib.suppress(OSError):
            udp.bind(("127.0.0.1", tcp.getsockname()[1]))
            ports.append(tcp.getsockname()[1])
    for each in held:
        each.close()
    return ports


@contextlib.contextmanager
def started(target, path, scratch):
    """Runs the target while the block lasts; yields the environment by which clients find it."""
    running = []
    try:
        yield (consul if target == "consul" else tidings)(path, scratch, running)
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            end_group(process)


def tidings(path, scratch, running):
    ports = free_ports(9)
    names = ["a", "b", "c"]
    gossip, http, dns = ports[0:3], ports[3:6], ports[6:9]
    for at, name in enumerate(names):
        command = [path, "agent", "--node", name, "--data-dir", scratch / name, "--gossip", f"127.0.0.1:{gossip[at]}",
                   "--http", f"127.0.0.1:{http[at]}", "--dns", f"127.0.0.1:{dns[at]}"]
        command += [part for other in gossip[:at] for part in ("--join", f"127.0.0.1:{other}")]
        launch(command, scratch / f"{name}.log", running)
    for at, name in enumerate(names):
        await_ready(lambda at=at: set(names) <= {member["Name"] for member in get(http[at], "/v1/agent/members")}, running, scratch / f"{name}.log")
    return environment("tidings", scratch, names, http, dns)


def consul(path, scratch, running):
    http, dns, lan, wan, server = free_ports(5)
    settings = {"ports": {"http": http, "dns": dns, "serf_lan": lan, "serf_wan": wan, "server": server, "grpc": -1},
                "disable_update_check": True, "node_name": "a", "performance": {"raft_multiplier": 1}}
    (scratch / "consul.json").write_text(json.dumps(settings))
    launch([path, "agent", "-server", "-bootstrap-expect=1", "-bind=127.0.0.1", "-client=127.0.0.1", "-data-dir", scratch / "data",
            "-config-file", scratch / "consul.json"], scratch / "a.log", running)
    await_ready(lambda: any(check["CheckID"] == "serfHealth" for check in get(http, "/v1/health/node/a")), running, scratch / "a.log")
    return environment("consul", scratch, ["a"] * 3, [http] * 3, [dns] * 3)


def launch(command, log, running):
    with open(log, "wb") as output:
        running.append(subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True))


def environment(target, scratch, names, http, dns):
    """What clients are told: they write at WRITE_… and read at READ_…, which are two agents where the target has two."""
    return {"TARGET": target, "DATACENTER": "dc1", "SCRATCH": str(scratch), "WRITE_NODE": names[0], "READ_NODE": names[1],
            "WRITE_HTTP": f"127.0.0.1:{http[0]}", "READ_HTTP": f"127.0.0.1:{http[1]}", "WRITE_DNS": str(dns[0]), "READ_DNS": str(dns[1])}


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
        return json.load(answer)


def await_ready(condition, running, log):
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in running):
            break
        # Refused, reset or a status of 500 while it starts.
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.05)
    raise NotStarted("not ready; its log ends with\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def end_group(process):
    """Ends a process and what it started: waits a while for it to end by itself if it was asked to, then kills."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS_MAX if process.returncode is None and not process.stdout else 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
