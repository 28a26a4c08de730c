"""From runs to tables, plots and reports."""
