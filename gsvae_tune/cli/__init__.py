"""The command line: parse, call, print. Each verb imports what it needs, so --help is quick."""
