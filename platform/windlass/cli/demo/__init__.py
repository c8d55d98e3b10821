"""The demonstration: two real models fine-tuned, judged and served on this machine, through the SDK alone."""
