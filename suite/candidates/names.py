"""Names of all that is measured, in the order of tables and plots."""

from impls import names

#: Baseline of each round of a benchmark.
BASELINE = "torch.nn.LSTM"
#: The baseline on a padded batch, which a user of packed sequences could take instead.
PADDED = f"{BASELINE} padded"
#: Both, which have no layer norm.
BASELINES = (BASELINE, PADDED)
#: What a user would pick instead of ours: torch.compile, and HyperLSTMs of others. Each is a module of this package,
#: whose `CANDIDATE` it is.
ALTERNATIVES = ("compiled", "labml", "jax")
#: Everything that is measured, in the order of tables and plots.
ORDER = (*names(), *BASELINES, *ALTERNATIVES)
