"""``dkimpipe --help`` and ``dkimpipe --version``."""

import posix

from dkimpipe import __version__

HELP = """\
usage: dkimpipe [OPTION]... [-f SENDER] [-- RECIPIENT...]
       dkimpipe VERB [OPTION]...              setup postfix check audit explain dns genkey rotate verify
                                              index import reflect reports test; see VERB --help

Reads a message from standard input and signs it with the keys given in the senders file. With
recipients, passes the message to sendmail(1) or to a relay; otherwise, writes it to standard output.

  -f SENDER                  envelope sender, '' for the null sender
  --login LOGIN              SASL login, '' for none; checked against login= in the entry
  --client ADDRESS           address of the SMTP client, '' for none; checked against sign_clients
  --conf_file FILE           options, one "name value" per line (/etc/dkimpipe/dkimpipe.conf)
  --sender_map FILE          senders and their signatures (/etc/dkimpipe/senders)
  --listid_map FILE          mailing lists (List-Id) and their signatures; looked up first
  --match WORD,...           addresses that choose the entry, in order: from, sender, envelope (from,sender)
  --sign_clients WORD,...    clients whose mail is signed: authenticated, mynetworks, any, addresses,
                             networks (authenticated,mynetworks)
  --on_error defer|accept    after an error: defer the mail, or pass it on unsigned with a warning (defer)
  --normalize yes|no         break lines over 998 bytes before signing; Postfix would do so after it (yes)
  --relay HOST:PORT          pass the message by SMTP to this listener of Postfix, not to sendmail(1)
  --client_name NAME         host name of the SMTP client, for the log of that listener (XFORWARD)
  --queue_id ID              queue ID of the message, likewise
  --sendmail FILE            sendmail(1) (/usr/sbin/sendmail)
  --syslog yes|no            log to syslog, facility mail (yes with recipients)
  --verbose                  also log the entry that was chosen

Defaults for signatures that do not set these options:
  --keyfile FILE             private key
  --selector NAME            s=
  --identity ADDRESS         i=
  --method METHOD            c=, for DKIM (relaxed) and DomainKeys (nofws)
  --dkim_method METHOD       c= for DKIM
  --domainkeys_method METHOD c= for DomainKeys

Without a map, as in DKIMproxy:
  --domain DOMAIN,...        sign for these domains; a single one signs all mail
  --signature TYPE(...)      dkim or domainkeys, with options; repeatable (dkim)
  --reject_error             same as --on_error defer

  --help, --version          show this help, show the version

Exit status: 0 if the message was passed on, signed or with nothing to sign; 75 after any error. The
output then begins with "4.3.x" and the cause, so that Postfix defers the mail and tries again.
"""


def usage(option: str) -> int:
    """Print the help or the version."""
    text = HELP if option == "--help" else f"dkimpipe {__version__}\n"
    posix.write(1, text.encode())
    return 0
