"""The version of this SDK."""

from __future__ import annotations

VERSION = "0.1.0"
