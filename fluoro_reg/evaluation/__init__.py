"""Comparing methods over many cases: metrics, statistics, a resumable runner, reports, public data sets."""
