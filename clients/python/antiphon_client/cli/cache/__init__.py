"""`antiphon cache`: what operators do with the entries of a cache."""
