"""The configuration of another signer, in terms that do not depend on that signer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from dkimpipe.files import Place

SAME, CHANGED, LOST = "same", "changed", "lost"


class Remark(NamedTuple):
    """What becomes of a setting.

    ``effect``  SAME: no effect here, or the same; CHANGED: mail is signed differently from now on;
                LOST: it cannot be expressed
    ``text``    in words, with the nearest equivalent; the name of the setting first
    """

    place: Place
    effect: str
    text: str


class ForeignSignature(NamedTuple):
    """A signature that the other signer makes.

    ``domain``   d=, or a macro of the senders file, such as ``$senderdomain``
    ``keyfile``  the path of the private key; macros as in ``domain``
    ``key``      the private key, where the configuration itself contains it
    ``options``  further options by their names in the senders file: a, c, h, i, x
    """

    place: Place
    domain: str
    selector: str
    keyfile: str
    key: bytes = b""
    options: tuple[tuple[str, str], ...] = ()


class Rule(NamedTuple):
    """Who is signed for, and how.

    ``key``  as in the senders file: an address; ``example.com``, a domain and its subdomains;
             ``*@example.com``, without them; ``*@*.example.com``, the subdomains alone; ``.``, anyone
    """

    place: Place
    key: str
    signatures: tuple[ForeignSignature, ...]


@dataclass
class Foreign:
    """What was read.

    ``rules``         the more particular first
    ``directives``    for the conf file: value and place by name
    ``kinds``         the kinds of mail that are signed, by their names in ``dkimpipe postfix --sign``
    ``daemon_names``  of the services whose mail is all signed: their milter_macro_daemon_name
    ``milters``       where Postfix finds the signer, as in ``smtpd_milters``
    ``stays``         whether it does more than sign, and has to stay there
    """

    rules: list[Rule] = field(default_factory=list)
    directives: dict[str, tuple[str, Place]] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    daemon_names: list[str] = field(default_factory=list)
    milters: list[str] = field(default_factory=list)
    stays: bool = False
    remarks: list[Remark] = field(default_factory=list)

    def remark(self, place: Place, effect: str, text: str) -> None:
        """Add a remark."""
        self.remarks.append(Remark(place, effect, text))
