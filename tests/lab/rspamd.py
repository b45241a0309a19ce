"""rspamd, where it is installed: the witness of how its configuration is read."""

from __future__ import annotations

import shutil

import pytest

RSPAMADM = shutil.which("rspamadm") or ""
NEEDS_RSPAMD = pytest.mark.skipif(not RSPAMADM, reason="needs rspamd: apt-get install rspamd")
