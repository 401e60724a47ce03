"""The command line, `mdan-zoo`."""
