"""Models measured: systems x files, means with margins, tables, and by speaker."""
