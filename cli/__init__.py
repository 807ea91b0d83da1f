"""The command line of geoaug: one file a command, and what they share in `main`, `options` and `console`.

Importing it loads typer and rich only; what a command needs is imported when it runs.
"""
