"""What to print about runs: statistics over seeds, and tables for the console, Markdown, CSV and LaTeX."""
