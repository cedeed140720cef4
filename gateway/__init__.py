"""A WebSocket session gateway: live identity, permissions and quotas straight from libSQL."""
