"""Comparing strategies: tasks, strategies, runs, statistics. Knows frameworks only by the names of their engines."""
