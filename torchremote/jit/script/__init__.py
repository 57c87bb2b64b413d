"""The last passes: a program becomes text, and TorchScript compiles the text, once."""
