"""Comparing strategies: tasks, strategies, runs, statistics. Knows frameworks only by the names of their engines."""

DEFAULT_STORE = "ratewise-results/runs.journal"
"""Where finished runs are kept unless a person says otherwise; here, because the command line shows it in its help."""
