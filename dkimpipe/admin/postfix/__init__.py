"""Postfix: its configuration read and edited, what signing and verifying need of it, and what is wrong."""
