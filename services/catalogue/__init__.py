"""What may be called and what it costs: models, upstreams, prices, token counts.

    values       the plain values: Model, UpstreamSpec, Prices
    schema       the strict shape of the TOML file
    catalogue    loading, merging and looking up
    money        integer prices and the cost of a usage
    tokens       token counts, exact or estimated, always with an upper bound
    credentials  where an upstream's key comes from

Money is integer nano-USD everywhere (1 USD = 10⁹ nano-USD); nothing here is a float that stands for money.
"""
