"""Comparison of methods over many cases: metrics, statistics, a resumable runner, reports and public data sets."""
