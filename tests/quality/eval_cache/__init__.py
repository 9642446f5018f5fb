"""`make eval-cache`: what the cache serves of sets of questions, asked over gRPC.

Every verifier has a service of its own, the real process over a real store. A lookup goes to the service whose verifier
did not see the question's cluster; what is stored is stored in all of them, since any of them may be asked next. Only
the embedder is replaced: one that remembers what the real one made of these texts, so that five processes do not
compute the same vectors five times. It says the same about every text as the real one, which embeds whatever it does
not remember.

Without verifiers of folds (`FOLDS=none`, or a text that no fold knows) the packaged verifier judges; figures on what it
was fitted on are labelled so. Thresholds of presets and the calibration were chosen on all folds together.

    material    the sets, with the verifier that judges each question
    remembering the embedder; `service` is the cache's process with it, `fleet` all processes of a run
    asking      streams and pairs through the services
    cosine      what thresholds of the cosine alone would have served, from the same vectors
    goals       what is promised; `report` and `plots` show it beside what was found
"""
