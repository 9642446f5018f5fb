"""What a namespace's own traffic teaches about its rule: how far it may be loosened, and when it must be tightened.

Pure domain: plain values, clock and randomness are passed in. `namespaces.Namespaces` holds a `learner.Learner` for
each namespace:

- `level` is the loosest rung that may be served, which may be -1: the exact tier only; `level_for(entry)` that of an
  entry with a record of its own;
- `served(rung)` counts a hit;
- `missed(rung)` counts a lookup that found nothing good enough, by its best candidate's rung;
- `learn(label)` takes a free label, an audit's verdict or feedback, and says whether the entry goes into quarantine;
  `tell(source, entry)` takes feedback about no pair in particular, which `services.cache.quarantine` decides on;
- `rivals` are pairs of entries whose answers differ, and `contested(entry, rung, beside)` says whether a question has
  such a pair among its candidates: it is served neither;
- `budget`, `audited()` and `belief` are for statistics.

`missed`, `served` and labels take the rung of the pair alone, `ladder.of(score, cosine)`: what is known of its entry
would count twice.
"""
