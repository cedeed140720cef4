"""HTTP resources and the channel endpoint."""
