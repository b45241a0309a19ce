"""Postfix: read and edit its configuration, set it up to sign and verify mail, and find problems."""
