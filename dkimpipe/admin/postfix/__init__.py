"""Postfix: read and edit its configuration, set it up for signing and verifying, and find problems."""
