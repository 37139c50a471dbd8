"""What a site may be called: in a hello, in a certificate, in a file's name."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["SITE_NAME"]

SITE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
