"""A throwaway copy of this machine, for tests of what changes a machine.

Its root is an overlay: below, read only, the machine's own root; above it a tmpfs, which takes every change
and is gone in the end. Mounts, processes and, if wanted, the network are its own, too: nothing but loopback,
and no way out. There is no syslog. It needs Linux, root, and unshare(1) and nsenter(1) of util-linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin"
_LARGE = 1 << 20  # octets
_CHANGES, _LAYERS = "changes", "layers"  # in a directory of files that were kept

# $1: what to do first; $2: a directory with files to begin with, or nothing; $3: the root to copy; $4: what
# /opt consists of, if that is kept apart. From the first line on nothing here can write to the machine's own
# root. The process whose root is the copy prints its number, once that is so. It ends with its standard
# input, and all that runs in the copy ends with it.
_START = """
set -e
mount -o remount,bind,ro /
$1
mount -t tmpfs none /mnt
mkdir /mnt/changes /mnt/work /mnt/root /mnt/opt /mnt/opt-work
[ -z "$2" ] || cp -a "$2/." /mnt/changes
mount -t overlay -o lowerdir=$3,upperdir=/mnt/changes,workdir=/mnt/work none /mnt/root
[ -z "$4" ] || mkdir -p /mnt/root/opt
[ -z "$4" ] || mount -t overlay -o lowerdir=$4,upperdir=/mnt/opt,workdir=/mnt/opt-work none /mnt/root/opt
read -r number rest </proc/self/stat
cd /mnt/root
mount -t proc none proc
mount -t tmpfs none dev
for device in null zero full random urandom tty; do
    : >dev/$device
    mount --bind /dev/$device dev/$device
done
ln -s /proc/self/fd dev/fd
exec chroot . sh -c 'echo $0; exec cat >/dev/null' $number
"""


class Done(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    stdout: str
    stderr: str


class File(NamedTuple):
    """What stands at a path; for content a link has where it leads, and a large file size and time."""

    mode: str
    owner: int
    group: int
    content: bytes


class Machine:
    """A context manager: a copy of this machine, from entry to exit.

    ``files``    a directory made by ``keep``: the copy begins with these changes
    ``network``  whether it has a network of its own
    ``base``     the root of another system, to be copied in place of this machine's
    ``root``     its root, to look at and to write to from outside
    """

    def __init__(self, files: Path | None = None, *, network: bool = False, base: Path = Path("/")) -> None:
        self._files = files / _CHANGES if files else None
        self._layers = (files / _LAYERS).read_text().split() if files else []
        self._base = base
        self._namespaces = ["--mount", "--pid", *(["--net"] if network else [])]

    def __enter__(self) -> Machine:
        """Raise OSError if no copy can be made here."""
        first = "ip link set lo up" if "--net" in self._namespaces else ""
        layers = [*self._layers, *([str(self._base / "opt")] if (self._base / "opt").is_dir() else [])]
        opt = ":".join(layers) if self._layers else ""
        script = ["sh", "-c", _START, "sh", first, str(self._files or ""), str(self._base), opt]
        self._holder = subprocess.Popen(
            ["unshare", *self._namespaces, "--fork", *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._number = self._holder.stdout.readline().strip() if self._holder.stdout else ""
        if not self._number:
            raise OSError(self._holder.communicate()[1].strip())
        self.root = Path(f"/proc/{self._number}/root")
        if self.root.stat().st_dev == Path("/").stat().st_dev:
            self._holder.communicate()
            raise OSError("the copy is the machine itself")
        self._above = Path(f"/proc/{self._holder.pid}/root/mnt")
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    def run(
        self,
        *command: str,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Done:
        """Run a command in the copy, at ``/``; PATH and what is given are all of its environment."""
        done = subprocess.run(
            [*self.entering(*self._namespaces), *command],
            input=stdin,
            capture_output=True,
            text=True,
            env={"PATH": PATH, **(environment or {})},
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def entering(self, *namespaces: str) -> list[str]:
        """Return the words before a command that runs with the root and these namespaces of the copy."""
        if self._holder.poll() is not None:
            raise OSError("the copy is gone")
        return ["nsenter", "--target", self._number, *namespaces, "--root", "--wd"]

    def namespaces(self) -> list[str]:
        """Return the files of the namespaces that are the copy's own."""
        if self._holder.poll() is not None:
            raise OSError("the copy is gone")
        files = {"--mount": "mnt", "--pid": "pid", "--net": "net"}
        return [f"/proc/{self._number}/ns/{files[each]}" for each in self._namespaces]

    def shell(self, script: str, timeout: float = 60) -> str:
        """Return what a shell script prints in the copy; raise RuntimeError with all it said if it fails."""
        done = self.run("sh", "-e", stdin=script, timeout=timeout)
        if done.status:
            raise RuntimeError(f"status {done.status} of: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def changes(self) -> dict[str, File]:
        """Return all that differs from the machine, by path; what was removed is a device there.

        Of what was in /opt at the beginning, only what differs from that is there.
        """
        in_opt = tree(self._above / "opt")
        return {**tree(self._above / _CHANGES), **{f"opt/{path}": file for path, file in in_opt.items()}}

    def keep(self, directory: Path) -> Path:
        """Keep in a directory what was changed, for copies that begin with it.

        What is in /opt, which may be large, is not copied again for each of them: it is below their changes.
        """
        subprocess.run(["cp", "-a", self._above / _CHANGES, self._above / "opt", directory], check=True)
        changes, opt = directory / _CHANGES, directory / "opt"
        if (changes / "opt").is_dir() and not self._layers:
            opt.rmdir()
            (changes / "opt").rename(opt)
        layers = [*([str(opt)] if any(opt.iterdir()) else []), *self._layers]
        (directory / _LAYERS).write_text("\n".join(layers))
        return directory

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Let this thread open sockets in the network of the copy; they stay there."""
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self._number}/ns/net") as its:
            _enter(its.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())


def _enter(namespace: int) -> None:
    """Let this thread enter a namespace: setns(2), which Python has since 3.12."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def tree(directory: Path) -> dict[str, File]:
    """Return all that is in a directory, by path."""
    return {str(path.relative_to(directory)): _file(path) for path in sorted(directory.rglob("*"))}


def _file(path: Path) -> File:
    status = path.lstat()
    content = b""
    if stat.S_ISLNK(status.st_mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISREG(status.st_mode):
        is_large = status.st_size > _LARGE
        content = b"%d %d" % (status.st_size, status.st_mtime_ns) if is_large else path.read_bytes()
    return File(stat.filemode(status.st_mode), status.st_uid, status.st_gid, content)


def why_not() -> str:
    """Return why there can be no copy of this machine, or nothing."""
    try:
        with Machine(network=True) as machine:
            machine.shell("true")
    except (OSError, RuntimeError) as error:
        return str(error)
    return ""
