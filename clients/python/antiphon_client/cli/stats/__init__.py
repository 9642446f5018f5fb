"""`antiphon stats`: what the cache holds, what it saved, and how alike and how fast its answers were."""
