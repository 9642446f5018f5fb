"""The lists of words that features and policies look for. English; whole words (`terms`)."""

from __future__ import annotations

from services.router.terms import Terms, words

MATHEMATICS = Terms("""
    equation, equations, integral, derivative, derivatives, theorem, lemma, polynomial, polynomials, matrix, matrices,
    eigenvalue, eigenvalues, modulo, probability, integer, integers, prime, primes, triangle, logarithm, perpendicular,
    coefficient, coefficients, remainder, divisible, quadratic, hypotenuse, permutation, permutations, combinatorics
""")

STEPS = Terms("""
    first, firstly, second, secondly, third, thirdly, then, next, after that, afterwards, finally, followed by,
    step by step, step-by-step, one by one, and also, as well as, in addition
""")

DEMANDS = Terms("""
    must, should, shall, ensure, exactly, without, unless, except, only if, at least, at most, no more than,
    no less than, constraint, constraints, requirement, requirements, within, trade-off, trade-offs, tradeoff,
    tradeoffs, edge case, edge cases, assuming, suppose, given that, subject to, as long as, so that, respectively,
    zero downtime
""")

OPEN_TASK = Terms("""
    design, designing, architect, architecture, architectures, prove, proof, derive, derivation, implement,
    implementation, refactor, optimise, optimize, optimising, optimizing, debug, compare, contrast, evaluate, analyse,
    analyze, analysing, analyzing, analysis, critique, strategy, migrate, migration, algorithm, distributed, concurrent,
    concurrency, scalable, scalability, multi-region, multi-tenant, multi-step, fault-tolerant, fault-tolerance,
    fault tolerant, fault tolerance, failover, consistency, replication, justify, comprehensive, essay, in depth,
    in detail, business plan, threat model, root cause
""")

LOOKUP_OPENINGS = Terms("""
    what, what's, who, whom, whose, when, where, which, define, translate, spell, list, name, is, are, was, does, do,
    did, convert, summarise, summarize, rephrase, proofread, correct, give me, tell me, can i, could i, may i, how do,
    how can, how many, how much, how old, how long, how far, how to, how often
""")

GREETINGS = frozenset(words("hi hello hey thanks please ok okay so and well"))
"""Words before the opening that do not count as the opening."""

KEYWORDS_SIMPLE = Terms("""
    define, list, translate, name, spell, convert, capital, meaning, synonym, what is, what's, what are, who is,
    who was, when is, when was, when did, where is, how many, how much, how old, how do i, how can i,
    yes or no, true or false, short answer
""")

KEYWORDS_MODERATE = Terms("""
    explain, describe, summarise, summarize, write, rewrite, outline, classify, extract, review, suggest, recommend,
    how to, how does, difference between, give an example, pros and cons
""")

KEYWORDS_COMPLEX = Terms("""
    analyse, analyze, design, architect, architecture, prove, proof, derive, compare, contrast, evaluate, critique,
    optimise, optimize, implement, refactor, debug, algorithm, strategy, synthesise, synthesize, trade-off, trade-offs,
    step by step, step-by-step, in depth, root cause, multi-step, system design
""")
