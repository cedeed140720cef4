"""A WebSocket session gateway: live identity, permissions and quotas straight from libSQL."""

from __future__ import annotations

__version__ = "0.1.0"
