"""The programs that send mail on such a server, each as it does by itself."""

from __future__ import annotations

from typing import NamedTuple

from house import PASSWORD, RECEIVER, SERVER
from throwaway import Machine

from dkimpipe.admin.postfix.kinds import BOUNCES, LOCAL, NETWORKS, SUBMISSION

TO = "bob@example.net"
OTHERS = "mail of others"


class Client(NamedTuple):
    """What sends, which kind of mail it is, and the command; ``%SUBJECT%`` is replaced."""

    name: str
    kind: str
    command: str


_SWAKS = (
    f"swaks --server mail.example.com --from alice@example.com --to {TO} --auth PLAIN --auth-user alice"
    f" --auth-password '{PASSWORD}' --header 'Subject: %SUBJECT%' --body 'Hello'"
)
_FROM_OUTSIDE = (
    f"swaks --server {SERVER} --local-interface {RECEIVER} --ehlo mx.example.net --from {TO}"
    " --h-From 'Bob <bob@example.net>' --header 'Subject: %SUBJECT%' --to"
)
_PHONE = f"""\
python3 - <<'END'
import smtplib, ssl
context = ssl.create_default_context(cafile="/etc/ssl/mail.pem")
with smtplib.SMTP("mail.example.com", 587) as server:
    server.starttls(context=context)
    server.login("alice", "{PASSWORD}")
    text = "From: Alice \\u00c4 <alice@example.com>\\r\\nTo: {TO}\\r\\nSubject: %SUBJECT%\\r\\n\\r\\n"
    text += "\\u00e4" * 2000
    server.sendmail("alice@example.com", "{TO}", text.encode(), ["BODY=8BITMIME"])
END"""
_PHP_MAIL = f"""\
php -r 'exit(mail("{TO}", "%SUBJECT%", "Hello", "From: shop@example.com") ? 0 : 1);'"""
_PHPMAILER = f"""\
php -r '
$c = fsockopen("localhost", 25);
foreach (["EHLO shop", "MAIL FROM:<shop@example.com>", "RCPT TO:<{TO}>", "DATA"] as $l) {{
    while (($r = fgets($c)) && $r[3] == "-"); fwrite($c, $l . "\\r\\n");
}}
fgets($c);
fwrite($c, "From: Shop <shop@example.com>\\r\\nTo: {TO}\\r\\nSubject: %SUBJECT%\\r\\n");
fwrite($c, "Content-Type: text/html\\r\\n\\r\\n<p>Hello</p>\\r\\n.\\r\\nQUIT\\r\\n");
while (fgets($c));'"""
_LIST = f"""\
list=/var/spool/mlmmj/list
[ -d $list ] || {{
    for name in incoming queue/discarded archive subconf unsubconf bounce control moderation requeue \\
        subscribers.d nomailsubs.d digesters.d text; do
        mkdir -p $list/$name
    done
    echo list@example.com >$list/control/listaddress
    echo alice@example.com >$list/control/owner
    echo {TO} >$list/subscribers.d/b
    touch $list/control/nosubonlypost
    chown -R nobody:nogroup /var/spool/mlmmj
    echo "list: \\"|/usr/bin/mlmmj-receive -L $list -F\\"" >>/etc/aliases
    newaliases
}}
printf 'From: alice@example.com\\nTo: list@example.com\\nSubject: %SUBJECT%\\n\\nHello\\n' |
    su alice -s /bin/sh -c '/usr/sbin/sendmail -i -f alice@example.com list@example.com'"""
_SIEVE = """\
cat >/home/{user}/.dovecot.sieve <<'END'
{script}
END
chown {user} /home/{user}/.dovecot.sieve
rm -rf /home/{user}/.dovecot.lda-dupes*
"""
_VACATION = _SIEVE.format(
    user="bob", script='require "vacation";\nvacation :days 1 :subject "%SUBJECT%" "I am away.";'
)
_REDIRECT = _SIEVE.format(user="alice", script=f'redirect "{TO}";')
_CRON = f"""\
echo '* * * * * root echo %SUBJECT%' >/etc/cron.d/test
sed -i '1i MAILTO={TO}' /etc/cron.d/test
pgrep -x cron >/dev/null || cron"""
_LOGWATCH = f"logwatch --output mail --mailto {TO} --subject '%SUBJECT%' --service postfix --range today"
_DELAY = f"{_FROM_OUTSIDE} stuck@example.com; sleep 2; postqueue -f"

CLIENTS = (
    Client("swaks on port 587", SUBMISSION, f"{_SWAKS} --port 587 --tls"),
    Client("swaks on port 465", SUBMISSION, f"{_SWAKS} --port 465 --tls-on-connect"),
    Client("a phone: 8-bit text, one long line", SUBMISSION, _PHONE),
    Client("a web application, by SMTP to localhost:25", NETWORKS, _PHPMAILER),
    Client("a mailing list (mlmmj)", NETWORKS, _LIST),
    Client("PHP mail()", LOCAL, _PHP_MAIL),
    Client("mail -s, as backup scripts use it", LOCAL, f"echo done | mail -s '%SUBJECT%' {TO}"),
    Client("logwatch", LOCAL, _LOGWATCH),
    Client("cron", LOCAL, _CRON),
    Client("a vacation reply (Sieve)", LOCAL, f"{_VACATION}{_FROM_OUTSIDE} bob@example.com"),
    Client("a bounce", BOUNCES, f"{_FROM_OUTSIDE} broken@example.com"),
    Client("a delay notice", BOUNCES, _DELAY),
    Client("mail from outside, redirected (Sieve)", OTHERS, f"{_REDIRECT}{_FROM_OUTSIDE} alice@example.com"),
    Client("mail from outside, forwarded (alias)", OTHERS, f"{_FROM_OUTSIDE} forwarded@example.com"),
)


def send(machine: Machine, client: Client, subject: str) -> None:
    """Let a client send one message. Raises RuntimeError with what it said."""
    machine.shell(client.command.replace("%SUBJECT%", subject))
