"""The report page on one or more evaluations."""
