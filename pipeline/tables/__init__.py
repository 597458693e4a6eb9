"""What a run stored, as tables with typed columns: to be written to files, or asked with SQL."""
