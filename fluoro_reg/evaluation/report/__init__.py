"""The report of an evaluation: CSV files, tables, plots and an HTML page."""
