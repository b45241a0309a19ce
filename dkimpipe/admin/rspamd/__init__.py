"""rspamd's configuration, as rspamd reads it: for the import, and for what Postfix has as milters."""
