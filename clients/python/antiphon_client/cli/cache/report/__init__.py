"""`antiphon cache report`: one HTML file about what the cache did, with nothing to load from elsewhere."""
