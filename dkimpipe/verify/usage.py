"""``dkimpipe verify --help``."""

HELP = """\
usage: dkimpipe verify [OPTION]... [-f SENDER] [-- RECIPIENT...]
       dkimpipe verify --explain [OPTION]...

Reads a message from standard input, verifies its DKIM and DomainKeys signatures, and adds the results as
an Authentication-Results field. With recipients, passes the message to sendmail(1); otherwise, writes it
to standard output.

  -f SENDER                  envelope sender, '' for the null sender
  --conf_file FILE           options, one "name value" per line (/etc/dkimpipe/verify.conf)
  --hostname NAME            authserv-id of that field (the system's hostname); forged fields, those
                             with this name in incoming mail, are removed
  --dns_server IP[#PORT]     use this resolver instead of the system's
  --reject_fail              reject mail without a valid signature from a domain that signs all its
                             mail (DomainKeys o=- and o=!, ADSP discardable)
  --dmarc                    add the result of DMARC; with --reject_fail, apply p=reject, too
  --reject_error             defer mail if a DNS lookup for it fails
  --relay HOST:PORT          pass the message by SMTP to this listener of Postfix, not to sendmail(1)
  --client ADDRESS           address of the SMTP client, for the log of that listener (XFORWARD)
  --client_name NAME         its host name, likewise
  --queue_id ID              queue ID of the message, likewise
  --sendmail FILE            sendmail(1) (/usr/sbin/sendmail)
  --syslog yes|no            log to syslog, facility mail (yes with recipients)

For interactive use:
  --explain                  show what is wrong with each signature, and why; do not pass the message on
  --key_file NAME=FILE       FILE contains the key record for NAME, or its private or public key;
                             repeatable

  --help                     show this help

Exit status: 0 if the message was verified, with any result, and passed on; 69 if it was rejected, with
"5.7.1" and the cause as the first output; 75 after any error, with "4.x.x" and the cause: Postfix defers
the mail and tries again. With --explain: 0 if a signature is valid, otherwise 78.
"""
