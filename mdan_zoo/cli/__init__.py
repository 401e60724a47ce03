"""The command line, `mdan-zoo`: one module a command."""
