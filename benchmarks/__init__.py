"""What torchremote costs, beside what else does the same work: one question a file. `make bench` asks all of them."""
