"""Programs that show how the SDK is used."""
