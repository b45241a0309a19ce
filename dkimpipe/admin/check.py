"""``dkimpipe check``: what is wrong, all of it in one run."""

from __future__ import annotations

import argparse

from dkimpipe.admin import postfix
from dkimpipe.admin.postconf import Postconf


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    postfix.add_instance(parser)
    parser.add_argument(
        "--postfix", action="store_true", required=True, help="look at Postfix's configuration"
    )


def run(options: argparse.Namespace) -> int:
    """Print what is wrong; return 0, or 78 with errors."""
    return postfix.check(Postconf(options.directory), options.user)
