"""The command line: parse, call the library, render. Nobody imports it."""
