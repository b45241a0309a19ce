"""OpenDKIM and OpenDMARC, of one project: how they are started, and their conf files. For the import and for
what Postfix has as milters."""
