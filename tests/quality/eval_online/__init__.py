"""The cache's learning, from cold, on streams whose right answers are known."""
