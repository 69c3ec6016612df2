"""Where programs and packages of others come from: the PATH, else the machine's own package clients, kept in a cache of the user.

Nothing is installed on the machine and no address of a registry is named: apt, pip, npm, go and mvn bring their own settings.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

# The last release of Debian that has Consul, and a Prometheus that discovers by it.
CONSUL_SUITE = "bullseye"
# One download or build; the longest is a Go module tree compiled on a cold cache.
STEP_SECONDS_MAX = 420


class Missing(Exception):
    """Something that is not to be had here; says what."""


def cache():
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    path = pathlib.Path(home) / "tidings-interop"
    path.mkdir(parents=True, exist_ok=True)
    return path


def need(program, why=""):
    """The path of a program, or a skip."""
    if path := shutil.which(program):
        return path
    raise Missing(f"{program} is not installed{why and ', ' + why}")


def step(command, **options):
    """Runs one command of a preparation; what it prints is shown only when it fails."""
    try:
        done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", timeout=STEP_SECONDS_MAX, **options)
    except subprocess.TimeoutExpired:
        raise Missing(f"`{command[0]} {command[1]}` was not done after {STEP_SECONDS_MAX} s") from None
    if done.returncode != 0:
        print(done.stdout)
        raise Missing(f"`{' '.join(str(part) for part in command)}` failed: {(done.stdout.strip().splitlines() or ['no output'])[-1]}")
    return done.stdout


@contextlib.contextmanager
def prepared(name, *sources):
    """A folder of the cache for what is made from the given files: yields (folder, whether it has to be made). Kept once the block ends well."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(pathlib.Path(source).read_bytes())
    folder = cache() / f"{name}-{digest.hexdigest()[:12]}"
    with open(cache() / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / ".done"
        fresh = not done.exists()
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        yield folder, fresh
        done.touch()


def debian(package, program, suite=None):
    """The path of a program and the environment to run it with: from the PATH, or from a Debian package unpacked into the cache."""
    found = None if suite else shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found:
        return found, {}
    need("apt-get", f"nor is {program}")
    need("dpkg-deb", f"nor is {program}")
    with prepared(f"{package}{suite or ''}") as (folder, fresh):
        root = folder / "root"
        if fresh:
            unpack(package, root, folder, suite)
    for place in ("usr/bin", "usr/sbin", "bin", "sbin"):
        if (path := root / place / program).exists():
            libraries = ":".join(str(part.parent) for part in sorted(root.glob("**/lib*.so*"))[:1])
            return str(path), {"LD_LIBRARY_PATH": libraries} if libraries else {}
    raise Missing(f"Debian's package {package} holds no {program}")


def unpack(package, root, folder, suite):
    """Downloads a package with what it needs beyond this machine's packages, and unpacks all of it."""
    archives = folder / "archives"
    lists = cache() / f"apt-lists-{suite or 'own'}"
    for path in (archives / "partial", lists / "partial", root):
        path.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={folder}", "-o", f"Dir::Cache::archives={archives}",
               "-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"]
    if suite:
        source = folder / "sources.list"
        source.write_text(f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {debian_uri()} {suite} main\n")
        options += ["-o", f"Dir::Etc::sourcelist={source}", "-o", "Dir::Etc::sourceparts=-"]
    if not any(lists.glob("*Packages*")):
        step(["apt-get", *options, "update"])
    if suite:
        # Only the package itself: what another release needs is not for this machine.
        step(["apt-get", *options, "download", package], cwd=archives)
    else:
        step(["apt-get", *options, "install", "-y", "--no-install-recommends", "--download-only", package])
    for archive in archives.glob("*.deb"):
        step(["dpkg-deb", "-x", archive, root])


def debian_uri():
    """Where this machine gets its Debian packages from, by its own settings."""
    for line in step(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"]).splitlines():
        origin, _, uri = line.partition(" ")
        if origin == "Debian" and "security" not in uri:
            return uri
    raise Missing("apt has no source of Debian packages")


def venv(requirements):
    """The Python of a virtual environment with the pinned packages of a requirements file."""
    with prepared(f"venv-{pathlib.Path(requirements).parent.name}", requirements) as (folder, fresh):
        python = folder / "bin" / "python"
        if fresh:
            step([sys.executable, "-m", "venv", folder])
            step([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", requirements])
    return str(python)
