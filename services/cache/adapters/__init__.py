"""The cache's state in Qdrant: entries, epochs, the verifier of the key."""
