"""What a namespace's own traffic teaches about its rule: how far it may be loosened, and when it must be tightened.

Pure domain: plain values, clock and randomness are passed in. `namespaces.Namespaces` holds a `learner.Learner` for
each namespace:

- `rung(score, cosine, entry)` places a candidate; it may be served iff its rung is at most `level`, which may
  be -1: the exact tier only;
- `served(rung, draw)` counts a hit and says whether it is to be audited;
- `missed(rung)` counts a lookup that found nothing good enough, by its best candidate's rung;
- `learn(label)` takes a free label, an audit's verdict or feedback, and says whether the entry goes into quarantine;
- `budget`, `audited()` and `belief` are for statistics.

`missed`, `served` and labels take the rung of the pair alone, `ladder.of(score, cosine)`: `rung` moves a pair by what
is known of its entry, and that would count twice.
"""
