"""A change of the embedder while the cache serves: every entry is embedded anew in a collection of its own.

    plan         which change is under way, and how far it is: the one record that all replicas look at
    readdress    where an entry of one embedder belongs under another
    moving       from the old collection into the new one, store to store; one replica does it, under a lease
    share        how much of the time it takes
    sides        what answers calls: the cache over one embedder, and for a while the one before it
    handover     from the one cache's memory into the other's, just before the change
    orders       what operators ask for, written into the plan
    filling      the replica that moves, under the lease
    attempts     when to try again what failed
    rotating     looks at the plan and does what it says: lets fill, changes over, drops

A cache, its index, its collection and its judge belong to one embedder and never see a vector of another: that is how
embedders do not mix. Until the change every lookup is answered by the old one, from then on by the new one.
"""
