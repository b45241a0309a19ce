"""``dkimpipe --help`` and ``dkimpipe --version``."""

import posix

from dkimpipe import __version__

HELP = """\
usage: dkimpipe [OPTION]... [-f SENDER] [-- RECIPIENT...]
       dkimpipe VERB [OPTION]...              setup postfix check explain dns genkey rotate verify index;
                                              VERB --help tells more

Reads a message on standard input and signs it with the keys that the senders file names. With
recipients it hands the message to sendmail(1); without, it writes it to standard output.

  -f SENDER                  envelope sender, '' for the null sender
  --login LOGIN              SASL login, '' for none: who may have a signature with login=
  --client ADDRESS           address of the SMTP client, '' for none: it must be one of sign_clients
  --conf_file FILE           options, one "name value" a line (/etc/dkimpipe/dkimpipe.conf)
  --sender_map FILE          who gets which signatures (/etc/dkimpipe/senders)
  --listid_map FILE          the same by List-Id; looked up first
  --match WORD,...           which addresses choose the entry, in order: from, sender, envelope (from,sender)
  --sign_clients WORD,...    which clients have mail signed: authenticated, mynetworks, any, addresses,
                             networks (authenticated,mynetworks)
  --on_error defer|accept    after an error keep the mail back, or pass it on unsigned with a warning (defer)
  --normalize yes|no         break lines over 998 octets before signing, as Postfix would do after it (yes)
  --sendmail FILE            sendmail(1) (/usr/sbin/sendmail)
  --syslog yes|no            log to syslog, facility mail (yes with recipients)
  --verbose                  log which entry was chosen, too

For signatures and entries that do not say it themselves:
  --keyfile FILE             private key
  --selector NAME            s=
  --identity ADDRESS         i=
  --method METHOD            c=, for DKIM (relaxed) and DomainKeys (nofws)
  --dkim_method METHOD       c= for DKIM
  --domainkeys_method METHOD c= for DomainKeys

Without a map, as in DKIMproxy:
  --domain DOMAIN,...        sign for these; one alone signs everything
  --signature TYPE(...)      dkim or domainkeys, with options; repeatable (dkim)
  --reject_error             as --on_error defer

  --help, --version          this, and the version; alone only

Exit status: 0 signed, or rightly not signed, and handed on; 75 anything else, with the cause as the
first output and "4.3.x" before it, so that Postfix keeps the mail and tries again.
"""


def usage(option: str) -> int:
    """Print what was asked for."""
    text = HELP if option == "--help" else f"dkimpipe {__version__}\n"
    posix.write(1, text.encode())
    return 0
