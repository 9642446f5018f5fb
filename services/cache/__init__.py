"""The semantic cache: stores answers and serves them to equal and to reworded questions.

    main → servicer → rotation.sides → cache → lookup, stores, fills …      adapters/ are injected

    question    what is asked, normalised; whether only its own words may find it (`referring`)
    scope       within what an answer may be shared: the fingerprint and the keys
    decision    which candidate is served, and why not the others; `freshness` and `storable` are its rules
    judges      what a fitted verifier, or the guard alone, makes of candidates; `simcore` does the work
    searching   what is most similar, judged, and the choice among it; `explaining` tells it to operators
    entries     everything that is stored, in memory, with the vector index
    fills       who makes the answer that is missing, and who waits for it
    writer      mirrors memory into the store; `backlog` is what waits for it on disk
    recovery    the way from the store back into memory, at the start and after a fault of the index
    removal     deletes, clears, forgets what has expired; `purging` takes it out of the store
    tailing     what other replicas have stored, deleted and cleared
    rotation    a change of the embedder while the cache serves
    clock       the time that entries live by

Domain modules import neither gRPC nor protobuf.
"""
