"""Long-lived tasks: the feed, the hub and the connections."""
