"""``dkimpipe verify --help``."""

HELP = """\
usage: dkimpipe verify [OPTION]... [-f SENDER] [-- RECIPIENT...]
       dkimpipe verify --explain [OPTION]...

Reads a message on standard input, verifies its DKIM and DomainKeys signatures, and puts what came of
them on top, as an Authentication-Results field. With recipients it hands the message to sendmail(1);
without, it writes it to standard output.

  -f SENDER                  envelope sender, '' for the null sender
  --conf_file FILE           options, one "name value" a line (/etc/dkimpipe/verify.conf)
  --hostname NAME            who we are in that field (the name of the machine); fields of others with
                             this name are taken out
  --dns_server IP[#PORT]     ask this resolver, not those of the system
  --reject_fail              reject what is not signed although its domain signs all its mail
                             (DomainKeys o=- and o=!, ADSP discardable)
  --dmarc                    with --reject_fail: DMARC p=reject, too
  --reject_error             keep mail back as long as DNS has no answer for it
  --sendmail FILE            sendmail(1) (/usr/sbin/sendmail)
  --syslog yes|no            log to syslog, facility mail (yes with recipients)

For people:
  --explain                  tell what is wrong with each signature, and why; hand on nothing
  --key_file NAME=FILE       FILE holds the key record NAME, or its private or public key; repeatable

  --help                     this; alone only

Exit status: 0 verified, whatever came of it, and handed on; 69 rejected, with "5.7.1" and the cause as
the first output; 75 anything else, with "4.x.x" there, so that Postfix keeps the mail and tries again;
with --explain 0 if a signature is good, else 78.
"""
