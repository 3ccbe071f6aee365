"""Options in, text and exit codes out."""
