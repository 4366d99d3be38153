"""Command line: parse, build the configuration, make one library call, print."""
