"""The command line: parse, call one function, print. The only place that talks to a person."""
