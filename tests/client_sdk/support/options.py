"""Options that let a channel come back soon, and the quota that is spent."""

from __future__ import annotations

from typing import Any

QUICK: dict[str, Any] = {"backoff_base_s": 0.02, "backoff_cap_s": 0.05, "close_timeout_s": 0.2}
OPTIONS: dict[str, Any] = {**QUICK, "ping_interval_s": 1e6}
VOICE = "voice_minutes"
