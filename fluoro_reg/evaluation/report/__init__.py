"""An evaluation on paper: tables, plots and one HTML page."""
