"""The commands of `segline`, one module per group: arguments, help and output; each calls one function."""
