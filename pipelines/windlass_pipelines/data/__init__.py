"""Dataset files in, internal form and validation report out, in a process that hostile bytes cannot outgrow."""
