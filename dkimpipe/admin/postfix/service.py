"""A service of Postfix: one line of master.cf."""

from __future__ import annotations

from typing import NamedTuple

from dkimpipe.admin.postfix.syntax import split


class Service(NamedTuple):
    """One line of master.cf.

    ``id``         ``name/type``, such as ``pickup/unix``
    ``command``    the program, such as ``smtpd``
    ``arguments``  the text after the program, as postconf(1) prints it
    """

    id: str
    private: str
    unprivileged: str
    chroot: str
    wakeup: str
    process_limit: str
    command: str
    arguments: str

    @classmethod
    def read(cls, line: str) -> Service:
        """Read a line as ``postconf -M`` prints it."""
        name, kind, private, unprivileged, chroot, wakeup, limit, command, *words = line.split()
        return cls(f"{name}/{kind}", private, unprivileged, chroot, wakeup, limit, command, " ".join(words))

    @property
    def line(self) -> str:
        """The line in the form of ``postconf -M``."""
        return " ".join([*self.id.rsplit("/", 1), *self[1:]]).rstrip()

    @property
    def name(self) -> str:
        """The name of the service; for a network service, its listening address."""
        return self.id.rpartition("/")[0]

    @property
    def port(self) -> str:
        """The port of a network service, by number or name."""
        return self.name.rpartition(":")[2]

    @property
    def attributes(self) -> list[str]:
        """The attributes of a pipe service before ``argv=``, such as ``flags=q``, without ``-o`` options."""
        words = split(self.arguments.partition("argv=")[0])
        return [word for at, word in enumerate(words) if "-o" not in words[max(0, at - 1) : at + 1]]

    @property
    def command_line(self) -> list[str]:
        """The words of a pipe service's command line, as written."""
        return split(self.arguments.partition("argv=")[2])

    @property
    def argv(self) -> list[str]:
        """The same words, without the braces around those that contain spaces."""
        return [word[1:-1].strip() if word.startswith("{") else word for word in self.command_line]

    def attribute(self, name: str) -> str | None:
        """Return the value of an attribute such as ``flags`` of a pipe service; None if it is not set."""
        values = [word.partition("=")[2] for word in self.attributes if word.startswith(f"{name}=")]
        return values[-1] if values else None
